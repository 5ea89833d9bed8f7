"""Components with versions, in MLflow: publish, promote, resolve, and fetch a checked copy."""
