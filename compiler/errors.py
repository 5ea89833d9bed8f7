"""What can go wrong with a compiled copy."""


class CompilerError(Exception):
    """A copy cannot be made, read or used; the plain model can still serve."""
