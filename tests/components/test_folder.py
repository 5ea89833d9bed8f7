import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import ComponentError
from components.folder import MAX_MANIFEST_BYTES, ComponentFolder, record_files, write_manifest
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


def _link_manifest(path: Path) -> None:
    (path / MANIFEST_NAME).rename(path.parent / "elsewhere.json")
    (path / MANIFEST_NAME).symlink_to(path.parent / "elsewhere.json")


def _dangling_manifest(path: Path) -> None:
    (path / MANIFEST_NAME).unlink()
    (path / MANIFEST_NAME).symlink_to("nowhere")


def _manifest_folder(path: Path) -> None:
    (path / MANIFEST_NAME).unlink()
    (path / MANIFEST_NAME).mkdir()


def _huge_manifest(path: Path) -> None:
    os.truncate(path / MANIFEST_NAME, MAX_MANIFEST_BYTES + 1)


def _deep_manifest(path: Path) -> None:
    (path / MANIFEST_NAME).write_text("[" * 100_000)


def _pipe(path: Path) -> None:
    (path / "model.onnx").unlink()
    os.mkfifo(path / "model.onnx")


def _no_folder(path: Path) -> None:
    shutil.rmtree(path)


def _file_for_folder(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


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
        (_link_manifest, "component.json is a link"),
        (_dangling_manifest, "component.json is a link"),
        (_manifest_folder, "component.json is missing"),
        (_huge_manifest, "component.json has 1048577 bytes; at most 1048576"),
        (_deep_manifest, "component.json: the text"),
        (_pipe, "model.onnx is missing"),
        (_no_folder, "no component.json"),
        (_file_for_folder, "no component.json"),
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


def test_an_unlisted_link_is_found(folder: ComponentFolder) -> None:
    (folder.path / "link").symlink_to("/etc")
    with pytest.raises(ComponentError, match="link: not listed"):
        folder.verify()


def test_a_file_that_vanishes_after_opening_is_one_sentence(folder: ComponentFolder) -> None:
    (folder.path / "model.onnx").unlink()
    with pytest.raises(ComponentError, match=r"model.onnx cannot be read: FileNotFoundError"):
        folder.verify()


def test_the_working_directory_has_a_name(folder: ComponentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.path)
    assert ComponentFolder.open(Path()).digest == folder.digest
    (folder.path / "model.onnx").unlink()
    with pytest.raises(ComponentError, match=r"^vae_decoder: model.onnx is missing"):
        ComponentFolder.open(Path())


def test_the_digest_changes_with_any_file(folder: ComponentFolder) -> None:
    before = folder.digest
    (folder.path / "golden" / "0.npz").write_bytes(b"CASE")
    assert (
        write_manifest(folder.path, folder.manifest.model_copy(update={"files": record_files(folder.path)})).digest
        != before
    )
