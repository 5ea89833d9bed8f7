"""A1111's face: the paths under `/sdapi/v1` that clients of its web UI call, over the same orders as every face."""
