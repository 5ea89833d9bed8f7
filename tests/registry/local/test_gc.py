import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compiler.record import LEASE_NAME, write_record
from compiler.settings import CompilerSettings
from components.folder import ComponentFolder
from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.local.cache import ComponentCache
from registry.local.gc import collect, hold
from registry.settings import RegistrySettings

LONG_AGO_S = 3600.0


@pytest.fixture
def settings(tmp_path: Path) -> RegistrySettings:
    return RegistrySettings(home=tmp_path / "home")


@pytest.fixture
def compiler(settings: RegistrySettings) -> CompilerSettings:
    return CompilerSettings(folder=settings.home / "compiled", min_free_bytes=0, min_weight_bytes=0)


@pytest.fixture
def cached(
    settings: RegistrySettings, write_component: Callable[..., Path], tmp_path: Path
) -> Callable[[int, float], ComponentRef]:
    """Puts component `number` into the cache, as last used so many seconds ago."""

    def add(number: int, seconds: float) -> ComponentRef:
        source = write_component(tmp_path / f"source-{number}", content=b"weights" * 1000 + bytes([number]))
        ref = ComponentRef(name="emoji.vae_decoder", version=number, sha256=ComponentFolder.open(source).digest)

        def copy(into: Path) -> None:
            shutil.copytree(source, into, dirs_exist_ok=True)

        path = ComponentCache(settings.cache).add(ref, copy)
        then = time.time() - seconds
        os.utime(path, (then, then))
        return ref

    return add


def present(settings: RegistrySettings) -> set[str]:
    return {path.name for path in settings.cache.iterdir() if path.is_dir()}


def test_within_the_bound_nothing_is_removed(
    settings: RegistrySettings, compiler: CompilerSettings, cached: Callable[[int, float], ComponentRef]
) -> None:
    ref = cached(1, LONG_AGO_S)
    report = collect(settings, compiler, ())
    assert (report.components, report.compiled, report.bytes_freed, report.compiled_bytes) == ((), (), 0, 0)
    assert report.component_bytes > 7000
    assert present(settings) == {ref.sha256}


def test_nothing_at_all_is_nothing_to_collect(settings: RegistrySettings, compiler: CompilerSettings) -> None:
    assert collect(settings, compiler, ()).bytes_freed == 0


def test_the_longest_unused_goes_and_what_is_kept_used_or_fresh_stays(
    settings: RegistrySettings, compiler: CompilerSettings, cached: Callable[[int, float], ComponentRef]
) -> None:
    kept, held, fresh = cached(1, 4 * LONG_AGO_S), cached(2, 3 * LONG_AGO_S), cached(3, 10)
    oldest, newest = cached(4, 2 * LONG_AGO_S), cached(5, LONG_AGO_S)
    lease = hold(held, settings)
    assert lease is not None
    # it is in use, however long ago that began
    long_ago = time.time() - LONG_AGO_S
    os.utime(settings.cache / f"{held.sha256}.lease", (long_ago, long_ago))
    size = collect(settings, compiler, ()).component_bytes // 5
    report = collect(settings, compiler, {kept.sha256}, int(4.5 * size))
    assert [removed.name for removed in report.components] == [oldest.sha256]
    report = collect(settings, compiler, {kept.sha256}, 0)
    assert [removed.name for removed in report.components] == [newest.sha256]
    assert present(settings) == {kept.sha256, held.sha256, fresh.sha256}
    lease.release()
    report = collect(settings, compiler, {kept.sha256}, 0)
    assert [removed.name for removed in report.components] == [held.sha256]
    assert not (settings.cache / f"{held.sha256}.lease").exists()


def test_use_counts_for_the_order(
    settings: RegistrySettings, compiler: CompilerSettings, cached: Callable[[int, float], ComponentRef]
) -> None:
    older, newer = cached(1, 2 * LONG_AGO_S), cached(2, LONG_AGO_S)
    lease = hold(older, settings)
    assert lease is not None
    lease.release()
    report = collect(settings, compiler, (), 8000)
    assert [removed.name for removed in report.components] == [newer.sha256]


_HOLD = """
import sys
from components.reference import ComponentRef
from registry.local.gc import hold
from registry.settings import RegistrySettings
ref, settings = ComponentRef.model_validate_json(sys.argv[1]), RegistrySettings.model_validate_json(sys.argv[2])
lease = hold(ref, settings)
print(lease is not None, "mlflow" in sys.modules, flush=True)
sys.stdin.readline()
"""


def test_a_component_that_another_process_holds_stays_until_that_ends(
    settings: RegistrySettings, compiler: CompilerSettings, cached: Callable[[int, float], ComponentRef]
) -> None:
    ref = cached(1, LONG_AGO_S)
    command = [sys.executable, "-c", _HOLD, ref.model_dump_json(), settings.model_dump_json()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True False\n"
        long_ago = time.time() - LONG_AGO_S
        os.utime(settings.cache / f"{ref.sha256}.lease", (long_ago, long_ago))
        assert collect(settings, compiler, (), 0).components == ()
        process.kill()
    assert [removed.name for removed in collect(settings, compiler, (), 0).components] == [ref.sha256]


def test_what_dead_downloads_left_is_removed_and_one_under_way_is_not(
    settings: RegistrySettings, compiler: CompilerSettings
) -> None:
    dead, alive = (settings.cache / f".{digit * 64}-x" for digit in "ab")
    for folder in (dead, alive):
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"half")
    hold_lock = f"""
import sys
from pathlib import Path
from registry.local.lock import locked
with locked(Path({str(settings.cache / ("b" * 64 + ".lock"))!r})):
    print(flush=True)
    sys.stdin.readline()
"""
    with subprocess.Popen(
        [sys.executable, "-c", hold_lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        report = collect(settings, compiler, ())
        process.communicate("\n")
    assert [removed.name for removed in report.components] == [dead.name]
    assert alive.exists()


def test_compiled_copies_go_with_their_component(
    settings: RegistrySettings, compiler: CompilerSettings, cached: Callable[[int, float], ComponentRef]
) -> None:
    ref = cached(1, LONG_AGO_S)
    copy = compiler.folder / ("c" * 64)
    copy.mkdir(parents=True)
    (copy / "model.onnx").write_bytes(b"graph")
    write_record(copy, ComponentFolder.open(settings.cache / ref.sha256), 1.0)
    long_ago = time.time() - LONG_AGO_S
    os.utime(copy / LEASE_NAME, (long_ago, long_ago))
    assert collect(settings, compiler, ()).compiled == ()
    report = collect(settings, compiler, (), 0)
    assert [removed.reason for removed in report.compiled] == ["its component is gone"]
    assert report.bytes_freed > 7000


def test_a_folder_that_cannot_be_read_is_one_sentence(
    settings: RegistrySettings, compiler: CompilerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **_others: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("registry.local.gc.collect_copies", refuse)
    with pytest.raises(RegistryError, match="the copies cannot be collected: Permission denied"):
        collect(settings, compiler, ())
