"""What can go wrong with a compiled copy."""


class CompilerError(Exception):
    """A copy cannot be made, read or used; the plain model can still serve."""


class NoRoomError(CompilerError):
    """A copy does not fit now: on the disk, or beside those that are in use or under way. It may fit later."""
