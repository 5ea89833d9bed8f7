"""What keeps a benchmark from being run."""


class BenchmarkError(Exception):
    """The benchmark cannot go on; the message is one sentence."""
