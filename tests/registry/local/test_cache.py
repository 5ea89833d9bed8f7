import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compiler.settings import CompilerSettings
from components.folder import ComponentFolder
from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.local.cache import ComponentCache
from registry.local.gc import collect
from registry.settings import RegistrySettings


@pytest.fixture
def ref(decoder: Path) -> ComponentRef:
    return ComponentRef(name="emoji.vae_decoder", version=1, sha256=ComponentFolder.open(decoder).digest)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def copier(source: Path) -> Callable[[Path], None]:
    def fill(into: Path) -> None:
        shutil.copytree(source, into, dirs_exist_ok=True)

    return fill


def refuse(into: Path) -> None:
    raise AssertionError(f"nothing was to be written into {into}")


def kept(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def test_a_copy_is_kept_under_its_digest_for_every_reader(folder: Path, ref: ComponentRef, decoder: Path) -> None:
    cache = ComponentCache(folder)
    assert cache.get(ref) is None
    path = cache.add(ref, copier(decoder))
    assert path == folder / ref.sha256 == cache.get(ref)
    ComponentFolder.open(path).verify()
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.rglob("*") if file.is_file()}
    folders = {stat.S_IMODE(below.stat().st_mode) for below in (path, path / "golden")}
    assert (modes, folders) == ({0o644}, {0o755})
    assert cache.add(ref, refuse) == path


def test_what_is_not_the_component_is_refused_and_removed(
    folder: Path, ref: ComponentRef, tmp_path: Path, write_component: Callable[..., Path]
) -> None:
    other = write_component(tmp_path / "other", content=b"WEIGHTS")
    with pytest.raises(RegistryError, match=r"emoji.vae_decoder/1: .* damaged and was not kept: its digest is"):
        ComponentCache(folder).add(ref, copier(other))
    assert kept(folder) == set()


def test_a_partial_copy_is_never_seen(folder: Path, ref: ComponentRef, decoder: Path) -> None:
    def half(into: Path) -> None:
        shutil.copy(decoder / "component.json", into)
        raise RegistryError("the line was cut")

    cache = ComponentCache(folder)
    with pytest.raises(RegistryError, match="the line was cut"):
        cache.add(ref, half)
    assert kept(folder) == set()
    assert cache.get(ref) is None


def test_what_a_dead_process_left_is_removed(folder: Path, ref: ComponentRef, decoder: Path) -> None:
    left = folder / f".{ref.sha256}-dead" / "component"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(b"half")
    ComponentCache(folder).add(ref, copier(decoder))
    assert kept(folder) == {ref.sha256}


def _truncate(path: Path) -> None:
    os.truncate(path / "model.onnx.data", 3)


def _remove(path: Path) -> None:
    (path / "model.onnx").unlink()


def _rewrite_manifest(path: Path) -> None:
    with (path / "component.json").open("a") as manifest:
        manifest.write(" ")


def _replace_by_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


@pytest.mark.parametrize("damage", [_truncate, _remove, _rewrite_manifest, _replace_by_file])
def test_a_damaged_copy_is_seen_at_every_hit_and_replaced(
    folder: Path, ref: ComponentRef, decoder: Path, damage: Callable[[Path], None]
) -> None:
    cache = ComponentCache(folder)
    path = cache.add(ref, copier(decoder))
    damage(path)
    assert cache.get(ref) is None
    assert cache.add(ref, copier(decoder)) == path
    ComponentFolder.open(path).verify()
    assert kept(folder) == {ref.sha256}


def test_changed_content_of_the_same_size_is_seen_by_the_next_process(
    folder: Path, ref: ComponentRef, decoder: Path
) -> None:
    path = ComponentCache(folder).add(ref, copier(decoder))
    (path / "model.onnx.data").write_bytes(b"WEIGHTS")
    fresh = ComponentCache(folder)
    assert fresh.get(ref) is None
    assert fresh.add(ref, copier(decoder)) == path
    assert (path / "model.onnx.data").read_bytes() == b"weights"


def _another_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ComponentCache, list[Path]]:
    """A cache as another process has it, and the components that it reads as a whole."""
    read: list[Path] = []
    real = ComponentFolder.verify

    def verify(component: ComponentFolder) -> None:
        read.append(component.path)
        real(component)

    monkeypatch.setattr(ComponentFolder, "verify", verify)
    return ComponentCache(folder), read


def test_what_was_read_as_a_whole_on_this_node_is_not_read_again_by_the_next_process(
    folder: Path, ref: ComponentRef, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ComponentCache(folder).add(ref, copier(decoder))
    cache, read = _another_process(folder, monkeypatch)
    assert (cache.get(ref), read) == (path, [])


def _no_record(path: Path) -> None:
    path.with_suffix(".verified").unlink()


def _half_a_record(path: Path) -> None:
    record = path.with_suffix(".verified")
    record.write_text(record.read_text()[:-10])


def _later(path: Path) -> None:
    os.utime(path / "model.onnx.data", (0, 0))


@pytest.mark.parametrize("change", [_no_record, _half_a_record, _later])
def test_what_its_record_does_not_match_is_read_as_a_whole_and_only_once(
    folder: Path, ref: ComponentRef, decoder: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ComponentCache(folder).add(ref, copier(decoder))
    change(path)
    for expected in ([path], []):
        cache, read = _another_process(folder, monkeypatch)
        assert (cache.get(ref), read) == (path, expected)


def test_its_record_goes_with_a_component(ref: ComponentRef, decoder: Path, tmp_path: Path) -> None:
    settings = RegistrySettings(home=tmp_path)
    path = ComponentCache(settings.cache).add(ref, copier(decoder))
    os.utime(path, (0, 0))
    collect(settings, CompilerSettings(folder=tmp_path / "compiled"), (), 0)
    assert [file.name for file in settings.cache.iterdir() if file.suffix != ".lock"] == []


def test_a_file_that_is_not_listed_is_seen_by_the_next_process(folder: Path, ref: ComponentRef, decoder: Path) -> None:
    path = ComponentCache(folder).add(ref, copier(decoder))
    (path / "golden" / "more.npz").write_bytes(b"more")
    assert ComponentCache(folder).get(ref) is None


def test_where_the_record_cannot_be_written_every_process_reads_the_whole(
    folder: Path, ref: ComponentRef, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / f"{ref.sha256}.verified").mkdir(parents=True)
    path = ComponentCache(folder).add(ref, copier(decoder))
    cache, read = _another_process(folder, monkeypatch)
    assert (cache.get(ref), cache.get(ref), read) == (path, path, [path])


def test_a_bad_replacement_is_not_taken_on_the_word_of_the_good_copy(
    folder: Path, ref: ComponentRef, decoder: Path
) -> None:
    cache = ComponentCache(folder)
    _truncate(cache.add(ref, copier(decoder)))
    (decoder / "model.onnx.data").write_bytes(b"WEIGHTS")  # of the right size
    with pytest.raises(RegistryError, match=r"content of model.onnx.data"):
        cache.add(ref, copier(decoder))


def test_who_has_opened_a_damaged_copy_keeps_it(folder: Path, ref: ComponentRef, decoder: Path) -> None:
    cache = ComponentCache(folder)
    path = cache.add(ref, copier(decoder))
    with (path / "model.onnx").open("rb") as opened:
        _truncate(path)
        cache.add(ref, copier(decoder))
        assert opened.read() == b"graph"


_RACE = """
import shutil, sys, time
from pathlib import Path
from components.reference import ComponentRef
from registry.local.cache import ComponentCache
source, cache, sha256 = sys.argv[1:]
def fill(into):
    with Path(cache, "fills").open("a") as fills:
        fills.write("x")
    time.sleep(0.3)
    shutil.copytree(source, into, dirs_exist_ok=True)
print(ComponentCache(Path(cache)).add(ComponentRef(name="emoji.vae_decoder", version=1, sha256=sha256), fill))
"""


def test_processes_at_once_make_one_copy(folder: Path, ref: ComponentRef, decoder: Path) -> None:
    folder.mkdir()
    command = [sys.executable, "-c", _RACE, str(decoder), str(folder), ref.sha256]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {process.communicate(timeout=60)[0].strip() for process in running}
    assert answers == {str(folder / ref.sha256)}
    assert (folder / "fills").read_text() == "x"
    assert kept(folder) == {ref.sha256}


def test_the_cache_alone_does_not_import_mlflow() -> None:
    code = (
        "import sys, registry.local.fetch, registry.bundle, registry.commands.main; sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
