"""Contents in a folder, a file for each."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_PART = ".part"


class Folder:
    """A folder, whose files nobody else on the machine can read, whatever folder it is."""

    def __init__(self, path: Path) -> None:
        """Make the folder where there is none, and remove what was half written.

        Raises:
            OSError: it cannot be made or read.
        """
        self._path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in path.glob(f"*{_PART}"):
            # whoever wrote it is gone
            part.unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """How many bytes there are under each name."""
        return {file.name: file.stat().st_size for file in self._path.iterdir()}

    def read(self, name: str) -> bytes | None:
        """What is under a name, None where nothing is."""
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Put a content under a name, whole or not at all."""
        # Under another name first, so that a process that dies leaves nothing half written under this one. Whether a
        # machine that loses power keeps it is not worth waiting for: a file with a hole is found out when it is read.
        part = self._path / f"{name}{_PART}"
        try:
            part.touch(mode=0o600)
            part.write_bytes(content)
            part.replace(self._path / name)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise

    def remove(self, names: Collection[str]) -> None:
        """Let nothing be under these names any more."""
        for name in names:
            (self._path / name).unlink(missing_ok=True)
