"""The npm packages that the pictures and captions come from, fetched at pinned versions and checked by hash."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


class SourceError(Exception):
    """A package could not be fetched or is not the one that was pinned."""


@dataclass(frozen=True)
class Source:
    """One npm package: what to ask for, what must come back, and under which licence it may be used."""

    name: str
    version: str
    integrity: str
    licence: str

    @property
    def archive_name(self) -> str:
        """The file name that `npm pack` gives the package."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


FLUENT_3D = Source(
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    "MIT",
)
FLUENT_FLAT = Source(
    "@lobehub/fluent-emoji-flat",
    "1.1.0",
    "sha512-lPYCg8+N56MIj+iOgeBeH6AF0tneXxJCvgi41rOTjAWpA5rU2WUcmU1fiIXouEe8GrSTarWCYLY2ML+rdLRHsg==",
    "MIT",
)
NOTO = Source(
    "@iconify-json/noto",
    "1.2.9",
    "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    "Apache-2.0",
)
EMOJIBASE = Source(
    "emojibase-data",
    "17.0.0",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    "MIT",
)
SOURCES = (FLUENT_3D, FLUENT_FLAT, NOTO, EMOJIBASE)


def fetch(source: Source, folder: Path) -> Path:
    """Unpack `source` below `folder`, downloading it with `npm pack` unless its archive is there already.

    Returns the unpacked package's own folder.

    Raises:
        SourceError: npm is missing or fails, or the archive's hash is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / source.archive_name
    if not archive.exists():
        _pack(source, folder)
    if _integrity(archive) != source.integrity:
        raise SourceError(
            f"{archive.name}: its hash is not the pinned {source.integrity}; remove the file and fetch again"
        )
    unpacked = folder / archive.stem
    if not unpacked.exists():
        partial = folder / f"{archive.stem}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(archive) as packed:
            packed.extractall(partial, filter="data")
        partial.rename(unpacked)
    return unpacked / "package"


def _pack(source: Source, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError(f"npm is needed to fetch {source.name} {source.version}; install Node.js")
    command = [npm, "pack", f"{source.name}@{source.version}", "--pack-destination", str(folder), "--silent"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SourceError(f"npm pack {source.name}@{source.version} failed: {done.stderr.strip()}")


def _integrity(archive: Path) -> str:
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha512").digest()
    return f"sha512-{base64.b64encode(digest).decode()}"
