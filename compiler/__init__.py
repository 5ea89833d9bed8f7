"""A component folder -> a copy of its graph tuned for this node, made once in a child process and shared."""
