"""The face of what became of a request when."""
