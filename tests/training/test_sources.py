import io
import tarfile
from pathlib import Path

import pytest

from training.sources import Source, SourceError, fetch


def packed(path: Path, name: str = "package/data.json") -> None:
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"{}"))


def test_another_archive_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    source = Source("@scope/thing", "1.0.0", "sha512-AAAA", "MIT")
    packed(tmp_path / source.archive_name)
    with pytest.raises(SourceError, match=r"scope-thing-1.0.0.tgz: its hash is not the pinned"):
        fetch(source, tmp_path)
    assert not (tmp_path / "scope-thing-1.0.0").exists()


def test_without_npm_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SourceError, match="npm is needed to fetch thing 1.0.0; install Node.js"):
        fetch(Source("thing", "1.0.0", "sha512-AAAA", "MIT"), tmp_path)
