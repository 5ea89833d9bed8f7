import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compiler import copies as copies_module
from compiler.child import build_in_child
from compiler.collection import key_lock
from compiler.copies import CompiledCopies, Outcome
from compiler.errors import CompilerError, NoRoomError
from compiler.key import copy_key
from compiler.record import RECORD_NAME, read_record, verify
from compiler.settings import CompilerSettings
from components.folder import ComponentFolder
from runtime.compiled import CompiledFolder
from runtime.errors import RuntimeFault
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.compiler.conftest import CPU, names, noise, with_golden

pytestmark = pytest.mark.slow  # a copy is built for nearly every test


def opened(copies: CompiledCopies, component: ComponentFolder, wait: bool = True) -> Outcome:
    return copies.open(Session.open, component, CPU, wait=wait).outcome


def join_builders() -> None:
    for thread in threading.enumerate():
        if "_build_behind" in thread.name:
            thread.join()


def test_the_first_waits_for_a_copy_and_the_next_maps_it(copies: CompiledCopies, component: ComponentFolder) -> None:
    assert copies.find(component) is None
    first = copies.open(Session.open, component, CPU, wait=True)
    again = copies.open(Session.open, component, CPU, wait=True)
    assert (first.outcome, again.outcome) == (Outcome.BUILT, Outcome.HIT)
    found = copies.find(component)
    assert found is not None
    record = verify(found.copy)
    assert record.component == component.digest
    assert record.bytes_on_disk > sum(file.size for file in component.manifest.files.values()) / 2


def test_who_does_not_wait_serves_the_plain_model_and_the_next_has_the_copy(
    copies: CompiledCopies, component: ComponentFolder
) -> None:
    made: list[ComponentFolder] = []

    def make(folder: ComponentFolder, session: SessionSettings) -> Session:
        made.append(folder)
        return Session.open(folder, session)

    assert copies.open(make, component, CPU, wait=False).outcome == Outcome.BUILDING
    join_builders()
    assert copies.open(make, component, CPU, wait=False).outcome == Outcome.HIT
    assert [isinstance(folder, CompiledFolder) for folder in made] == [False, True]


@pytest.mark.parametrize("threads", [1, 2])
def test_copy_and_plain_model_give_the_same_bytes_for_a_row_alone_and_in_company(
    copies: CompiledCopies, component: ComponentFolder, threads: int
) -> None:
    # the copy was made and tested with another number of threads
    copies.build(component, CPU)
    settings = SessionSettings(threads=threads, provider="cpu")
    found = copies.find(component)
    assert found is not None
    plain, compiled = Session.open(component, settings), Session.open(found, settings)
    for rows in (1, 2, 5):
        feeds = noise(rows, seed=rows)
        together = compiled.run(feeds)["prediction"]
        np.testing.assert_array_equal(together, plain.run(feeds)["prediction"])
        for row in range(rows):
            alone = compiled.run({name: array[row : row + 1] for name, array in feeds.items()})["prediction"]
            np.testing.assert_array_equal(alone[0], together[row])


def _truncate(copy: Path) -> None:
    os.truncate(copy / "model.onnx.data", 5000)


def _garbage(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"no graph")


def _garbage_of_the_same_size_and_time(copy: Path) -> None:
    before = (copy / "model.onnx").stat()
    (copy / "model.onnx").write_bytes(bytes(before.st_size))
    os.utime(copy / "model.onnx", ns=(before.st_atime_ns, before.st_mtime_ns))


def _flip_the_record(copy: Path) -> None:
    text = (copy / RECORD_NAME).read_text()
    size = str(read_record(copy).files["model.onnx"].size)
    (copy / RECORD_NAME).write_text(text.replace(size, size[::-1] + "1"))


def _no_record(copy: Path) -> None:
    (copy / RECORD_NAME).write_text("{")


def _no_lease(copy: Path) -> None:
    (copy / "lease").unlink()


@pytest.mark.parametrize(
    "damage",
    [_truncate, _garbage, _garbage_of_the_same_size_and_time, _flip_the_record, _no_record, _no_lease],
)
def test_a_damaged_copy_is_found_and_made_again(
    copies: CompiledCopies, component: ComponentFolder, damage: Callable[[Path], None]
) -> None:
    path = copies.build(component, CPU)
    damage(path)
    assert copies.find(component) is None
    assert not path.exists()
    assert opened(copies, component) == Outcome.BUILT
    assert opened(copies, component) == Outcome.HIT
    verify(path)


def test_a_copy_that_does_not_open_gives_way_to_the_plain_model(
    copies: CompiledCopies, component: ComponentFolder
) -> None:
    path = copies.build(component, CPU)

    def make(folder: ComponentFolder, session: SessionSettings) -> Session:
        if isinstance(folder, CompiledFolder):
            raise RuntimeFault("it does not open")
        return Session.open(folder, session)

    tried = copies.open(make, component, CPU, wait=True)
    assert (tried.outcome, tried.reason) == (Outcome.DAMAGED, "it does not open")
    assert not path.exists()


def test_a_plain_model_that_does_not_open_is_raised_and_not_the_copys_fault(
    copies: CompiledCopies, component: ComponentFolder
) -> None:
    path = copies.build(component, CPU)

    def make(_folder: ComponentFolder, _session: SessionSettings) -> Session:
        raise RuntimeFault("no memory")

    with pytest.raises(RuntimeFault, match="no memory"):
        copies.open(make, component, CPU, wait=True)
    assert path.exists()


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"most_bytes": 0}, Outcome.OFF),
        ({"most_bytes": 1000}, Outcome.DISK),
        ({"min_free_bytes": 1 << 60}, Outcome.DISK),
        ({"min_weight_bytes": 1 << 40}, Outcome.SMALL),
    ],
)
def test_where_no_copy_is_to_be_made_the_plain_model_serves(
    settings: CompilerSettings, component: ComponentFolder, changes: dict[str, int], outcome: Outcome
) -> None:
    copies = CompiledCopies(settings.model_copy(update=changes))
    assert [opened(copies, component, wait) for wait in (True, False)] == [outcome, outcome]
    assert not settings.folder.exists() or names(settings.folder) == []


def test_a_folder_that_cannot_be_written_is_a_disk_that_has_no_room(
    settings: CompilerSettings, component: ComponentFolder
) -> None:
    settings.folder.write_text("a file")
    assert opened(CompiledCopies(settings), component) == Outcome.DISK


def test_a_session_of_another_provider_takes_no_copy(
    copies: CompiledCopies, component: ComponentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_module, "provider_here", lambda _: "cuda")
    assert opened(copies, component) == Outcome.PROVIDER


def test_a_copy_that_misses_the_golden_cases_is_not_kept_nor_tried_again_at_once(
    copies: CompiledCopies, settings: CompilerSettings, component: ComponentFolder
) -> None:
    wrong = with_golden(component, offset=1.0)
    tried = copies.open(Session.open, wrong, CPU, wait=True)
    assert tried.outcome == Outcome.FAILED
    assert tried.reason is not None
    assert "golden cases are over their tolerance" in tried.reason
    assert names(settings.folder) == [f"{copy_key(wrong)}.failed"]
    # as long as it is fresh
    assert opened(copies, wrong, wait=False) == Outcome.FAILED
    long_ago = time.time() - 4000
    os.utime(settings.folder / f"{copy_key(wrong)}.failed", (long_ago, long_ago))
    assert opened(copies, wrong, wait=False) == Outcome.BUILDING
    join_builders()


def _made_anew(path: Path) -> None:
    """What another process does that finds a copy damaged and builds it again."""
    fresh = path.with_name("fresh")
    shutil.copytree(path, fresh)
    shutil.rmtree(path)
    fresh.rename(path)


def test_a_copy_that_was_made_anew_meanwhile_is_not_removed_for_the_damaged_one(
    copies: CompiledCopies, component: ComponentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copies.build(component, CPU)

    def late(copy: Path) -> None:
        _made_anew(copy)
        raise CompilerError("damaged")

    with monkeypatch.context() as patch:
        patch.setattr(copies_module, "check", late)
        assert copies.find(component) is None
    assert copies.find(component) is not None

    def make(folder: ComponentFolder, session: SessionSettings) -> Session:
        if isinstance(folder, CompiledFolder):
            _made_anew(path)
            raise RuntimeFault("it does not open")
        return Session.open(folder, session)

    assert copies.open(make, component, CPU, wait=True).outcome == Outcome.DAMAGED
    assert copies.find(component) is not None


def test_a_damaged_copy_is_left_to_who_makes_it_anew(
    copies: CompiledCopies, settings: CompilerSettings, component: ComponentFolder
) -> None:
    path = copies.build(component, CPU)
    _truncate(path)
    with key_lock(settings.folder, path.name):
        assert copies.find(component) is None
        assert path.exists()
    assert copies.find(component) is None
    assert not path.exists()


def test_components_that_build_at_once_count_each_others_bytes(
    settings: CompilerSettings, component: ComponentFolder, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = with_golden(ComponentFolder.open(shutil.copytree(original, component.path.with_name("other"))), 1e-6)
    weights = sum(file.size for name, file in component.manifest.files.items() if name != "golden-0.npz")
    copies = CompiledCopies(settings.model_copy(update={"most_bytes": int(weights * 2.5)}))
    outcomes: list[Outcome] = []

    def build(folder: ComponentFolder, session: SessionSettings, into: Path) -> None:
        outcomes.extend(opened(copies, other, wait) for wait in (True, False))
        build_in_child(folder, session, into)

    monkeypatch.setattr(copies_module, "build_in_child", build)
    assert opened(copies, component) == Outcome.BUILT
    assert outcomes == [Outcome.DISK, Outcome.DISK]
    assert names(settings.folder) == [copy_key(component)]


def test_what_no_longer_fits_when_its_turn_comes_is_no_failure(
    copies: CompiledCopies, settings: CompilerSettings, component: ComponentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Path:
        raise NoRoomError("full")

    monkeypatch.setattr(copies_module, "reserve", refuse)
    tried = copies.open(Session.open, component, CPU, wait=True)
    assert (tried.outcome, tried.reason) == (Outcome.DISK, "full")
    assert names(settings.folder) == []


def test_what_a_dead_process_left_is_removed_by_the_next_build(
    copies: CompiledCopies, settings: CompilerSettings, component: ComponentFolder
) -> None:
    (settings.folder / f".{copy_key(component)}-dead" / "copy").mkdir(parents=True)
    copies.build(component, CPU)
    assert names(settings.folder) == [copy_key(component)]


_RACE = """
import sys
from pathlib import Path
from compiler import copies
from compiler.settings import CompilerSettings
from components.folder import ComponentFolder
from runtime.session import Session
from runtime.settings import SessionSettings
component, folder = map(Path, sys.argv[1:])
real = copies.build_in_child
def counted(*arguments):
    with (folder.parent / "builds").open("a") as builds:
        builds.write("x")
    real(*arguments)
copies.build_in_child = counted
settings = CompilerSettings(folder=folder, min_free_bytes=0, min_weight_bytes=0)
session = SessionSettings(threads=1, provider="cpu")
one = copies.CompiledCopies(settings).open(Session.open, ComponentFolder.open(component), session, wait=True)
print(one.outcome)
"""


def test_processes_at_once_build_one_copy(settings: CompilerSettings, component: ComponentFolder) -> None:
    command = [sys.executable, "-c", _RACE, str(component.path), str(settings.folder)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate()[0].strip() for process in running]
    assert set(answers) <= {"built", "hit"}
    assert (settings.folder.parent / "builds").read_text() == "x"
    assert names(settings.folder) == [copy_key(component)]


def test_another_component_version_or_cpu_is_another_copy(
    component: ComponentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {copy_key(component)}
    with monkeypatch.context() as patch:
        patch.setattr("compiler.key.recipe", lambda: {"onnxruntime": "9.9"})
        keys.add(copy_key(component))
    with monkeypatch.context() as patch:
        patch.setattr("compiler.key.cpu_features", lambda: "another")
        keys.add(copy_key(component))
    with (component.path / "component.json").open("a") as manifest:
        manifest.write("\n")
    keys.add(copy_key(component))
    assert len(keys) == 4


def test_the_command_line_makes_copies_and_says_what_is_wrong(component: ComponentFolder, tmp_path: Path) -> None:
    def run(path: Path) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "compiler",
            str(path),
            "--copies",
            str(tmp_path / "compiled"),
            "--threads",
            "1",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(component.path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{component.path}: {tmp_path / 'compiled' / copy_key(component)}\n"
    assert run(tmp_path).stderr.startswith("compiler: ")


def test_copies_need_no_torch_mlflow_or_ray() -> None:
    code = "import sys, compiler.copies; sys.exit(bool({'torch', 'mlflow', 'ray', 'onnx'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
