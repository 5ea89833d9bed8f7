import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import ComponentError
from components.folder import ComponentFolder
from components.manifest import MANIFEST_NAME


def test_a_good_folder_opens_and_verifies(folder: ComponentFolder) -> None:
    again = ComponentFolder.open(folder.path)
    again.verify()
    assert again == folder
    assert again.graph() == folder.path / "model.onnx"
    assert len(again.digest) == 64


def test_an_unknown_graph_lists_the_known_ones(folder: ComponentFolder) -> None:
    with pytest.raises(ComponentError, match=r"no graph 'shallow'; it has main"):
        folder.graph("shallow")


def _truncate(path: Path) -> None:
    (path / "model.onnx").write_bytes(b"gra")


def _remove(path: Path) -> None:
    (path / "model.onnx").unlink()


def _link(path: Path) -> None:
    (path / "model.onnx").rename(path.parent / "elsewhere.onnx")
    (path / "model.onnx").symlink_to(path.parent / "elsewhere.onnx")


def _link_folder(path: Path) -> None:
    shutil.move(path / "golden", path.parent / "elsewhere")
    (path / "golden").symlink_to(path.parent / "elsewhere")


def _no_manifest(path: Path) -> None:
    (path / MANIFEST_NAME).unlink()


def _not_json(path: Path) -> None:
    (path / MANIFEST_NAME).write_text("{")


def _not_text(path: Path) -> None:
    (path / MANIFEST_NAME).write_bytes(b"\xff\xfe")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, "model.onnx has 3 bytes"),
        (_remove, "model.onnx is missing"),
        (_link, "model.onnx is a link"),
        (_link_folder, "golden/0.npz is a link"),
        (_no_manifest, "no component.json"),
        (_not_json, "component.json"),
        (_not_text, "cannot be read"),
    ],
)
def test_a_damaged_folder_does_not_open(folder: ComponentFolder, damage: Callable[[Path], None], words: str) -> None:
    damage(folder.path)
    with pytest.raises(ComponentError, match=words) as caught:
        ComponentFolder.open(folder.path)
    assert str(folder.path.parent) not in str(caught.value)


def test_changed_content_is_found(folder: ComponentFolder) -> None:
    (folder.path / "model.onnx").write_bytes(b"grapH")
    with pytest.raises(ComponentError, match="content of model.onnx"):
        ComponentFolder.open(folder.path).verify()


def test_an_unlisted_file_is_found(folder: ComponentFolder) -> None:
    (folder.path / "extra.bin").write_bytes(b"")
    with pytest.raises(ComponentError, match="extra.bin: not listed"):
        folder.verify()
