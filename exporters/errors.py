"""What can be wrong with what is to be exported."""


class ExportError(Exception):
    """A checkpoint cannot be read or exported, or an export is not exact; the message names the part and why."""
