import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from compiler.collection import collect_copies, key_lock, require_room, reserve, size_of
from compiler.copies import CompiledCopies, Outcome
from compiler.errors import CompilerError, NoRoomError
from compiler.key import copy_key
from compiler.lease import Lease
from compiler.record import LEASE_NAME, check, read_record, verify, write_record
from compiler.settings import CompilerSettings
from components.folder import ComponentFolder
from runtime.session import Session
from tests.compiler.conftest import CPU, names


def age(copy: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(copy / LEASE_NAME, (then, then))


@pytest.fixture
def made(copies: CompiledCopies, component: ComponentFolder) -> Path:
    """A copy that was last used an hour ago."""
    path = copies.build(component, CPU)
    age(path, 3600)
    return path


def another(copy: Path, name: str, seconds: float) -> Path:
    """A second copy, under another key, last used so long ago."""
    path = copy.with_name(name * 64)
    shutil.copytree(copy, path)
    age(path, seconds)
    return path


def bounded(settings: CompilerSettings, copies: float, of: Path) -> CompilerSettings:
    return settings.model_copy(update={"most_bytes": int(copies * read_record(of).bytes_on_disk)})


def test_within_the_bound_nothing_is_removed(settings: CompilerSettings, made: Path) -> None:
    assert collect_copies(settings, whole=True) == []
    assert made.exists()
    assert collect_copies(settings.model_copy(update={"folder": settings.folder / "none"})) == []


def test_the_longest_unused_goes_first(settings: CompilerSettings, made: Path) -> None:
    older, newer = another(made, "a", 9000), another(made, "b", 1800)
    removed = collect_copies(bounded(settings, 2.5, made))
    assert [each.name for each in removed] == [older.name]
    assert removed[0].bytes_freed >= read_record(made).bytes_on_disk
    removed = collect_copies(bounded(settings, 1.5, made))
    assert [each.name for each in removed] == [made.name]
    assert names(settings.folder) == [newer.name]


def test_what_is_in_use_or_was_just_now_stays(
    settings: CompilerSettings, copies: CompiledCopies, component: ComponentFolder, made: Path
) -> None:
    just_now = another(made, "a", 60)
    opened = copies.open(Session.open, component, CPU, wait=True)
    assert opened.outcome == Outcome.HIT
    age(made, 9000)
    assert collect_copies(settings.model_copy(update={"most_bytes": 0})) == []
    with pytest.raises(NoRoomError, match="do not fit beside the copies in use"):
        require_room(bounded(settings, 2.5, made), read_record(made).bytes_on_disk)
    # the session's lease goes with the session
    del opened
    assert [each.name for each in collect_copies(settings.model_copy(update={"most_bytes": 0}))] == [made.name]
    assert just_now.exists()


def test_a_full_folder_of_used_copies_means_the_plain_model(
    settings: CompilerSettings, component: ComponentFolder, made: Path
) -> None:
    age(made, 0)
    other = made.with_name("a" * 64)
    made.rename(other)
    assert CompiledCopies(bounded(settings, 1.5, other)).open(Session.open, component, CPU, wait=True).outcome == (
        Outcome.DISK
    )


def test_room_is_made_for_a_new_copy(settings: CompilerSettings, component: ComponentFolder, made: Path) -> None:
    other = made.with_name("a" * 64)
    made.rename(other)
    assert CompiledCopies(bounded(settings, 1.9, other)).open(Session.open, component, CPU, wait=True).outcome == (
        Outcome.BUILT
    )
    assert names(settings.folder) == [copy_key(component)]


def test_nothing_is_removed_for_a_copy_that_another_process_makes_already(
    settings: CompilerSettings, component: ComponentFolder, made: Path
) -> None:
    other = made.with_name("a" * 64)
    made.rename(other)
    with key_lock(settings.folder, made.name):
        opened = CompiledCopies(bounded(settings, 1.9, other)).open(Session.open, component, CPU, wait=False)
        for thread in threading.enumerate():
            if "_build_behind" in thread.name:
                thread.join()
    assert opened.outcome == Outcome.BUILDING
    assert names(settings.folder) == [other.name]


def test_nothing_is_removed_for_a_copy_that_would_not_fit_all_the_same(settings: CompilerSettings, made: Path) -> None:
    used = another(made, "a", 60)
    tight = bounded(settings, 2.5, made)
    with key_lock(settings.folder, "b" * 64), pytest.raises(NoRoomError, match="beside the copies in use"):
        reserve(tight, "b" * 64, 2 * read_record(made).bytes_on_disk)
    assert names(settings.folder) == sorted([made.name, used.name])


def test_what_builds_under_way_will_take_counts_until_they_end(settings: CompilerSettings) -> None:
    settings.folder.mkdir()
    one, two = "a" * 64, "b" * 64
    tight = settings.model_copy(update={"most_bytes": 150})
    with key_lock(settings.folder, two):
        with key_lock(settings.folder, one):
            work = reserve(tight, one, 100)
            with pytest.raises(NoRoomError, match="about 100 bytes do not fit"):
                reserve(tight, two, 100)
            # it takes more than was thought
            reserve(tight, two, 50).rename(work / "more")
            (work / "model.onnx").write_bytes(bytes(140))
            with pytest.raises(NoRoomError, match="about 20 bytes do not fit"):
                require_room(tight, 20)
        # its process died: the lock is free
        assert reserve(tight, two, 100).exists()
    assert not work.exists()


def test_what_builds_under_way_have_yet_to_write_is_not_free(
    settings: CompilerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.folder.mkdir()
    one, two = "a" * 64, "b" * 64
    tight = settings.model_copy(update={"min_free_bytes": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1150))
    with key_lock(settings.folder, one), key_lock(settings.folder, two):
        work = reserve(tight, one, 100)
        with pytest.raises(NoRoomError, match="bytes are free; a copy takes about 100"):
            reserve(tight, two, 100)
        (work / "model.onnx").write_bytes(bytes(100))
        assert reserve(tight, two, 100).exists()


def test_who_cannot_have_the_folder_to_make_room_makes_no_copy(
    settings: CompilerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.folder.mkdir()
    monkeypatch.setattr("compiler.collection._ROOM_WITHIN_S", 0.1)
    with key_lock(settings.folder, "room"), pytest.raises(NoRoomError, match=r"making room for 0\.1 s"):
        reserve(settings, "a" * 64, 1)


def test_a_damaged_copy_that_is_made_anew_meanwhile_stays(
    settings: CompilerSettings, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []

    def once_damaged(copy: Path) -> None:
        looks.append(copy)
        if len(looks) == 1:
            raise CompilerError("damaged")

    monkeypatch.setattr("compiler.collection.check", once_damaged)
    assert collect_copies(settings) == []
    assert looks == [made, made]
    # it is being made anew now
    looks.clear()
    with key_lock(settings.folder, made.name):
        assert collect_copies(settings) == []
    assert made.exists()


def test_copies_of_another_onnxruntime_or_of_components_that_are_gone_are_removed(
    settings: CompilerSettings, component: ComponentFolder, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert collect_copies(settings, {component.digest}) == []
    [removed] = collect_copies(settings, {"0" * 64})
    assert removed.reason == "its component is gone"
    made = CompiledCopies(settings).build(component, CPU)
    age(made, 3600)
    monkeypatch.setattr("compiler.record.recipe", lambda: {"onnxruntime": "9.9"})
    [removed] = collect_copies(settings)
    assert removed.reason == "of another ONNX Runtime or CPU"


def test_leftovers_and_damaged_copies_are_removed(settings: CompilerSettings, made: Path) -> None:
    left = settings.folder / f".{'a' * 64}-dead"
    left.mkdir()
    (left / "model.onnx").write_bytes(b"half")
    failed = settings.folder / f"{'b' * 64}.failed"
    failed.touch()
    os.utime(failed, (0, 0))
    flipped = another(made, "c", 5)
    record = json.loads((flipped / "copy.json").read_text())
    record["record"]["cpu"] = "0" * 64
    (flipped / "copy.json").write_text(json.dumps(record))
    removed = {each.name: each.reason for each in collect_copies(settings)}
    assert removed == {left.name: "left by a build that died", flipped.name: "damaged: copy.json was changed"}
    assert names(settings.folder) == [made.name]


def test_what_each_opening_cannot_see_a_whole_collection_does(
    settings: CompilerSettings, component: ComponentFolder
) -> None:
    copy = settings.folder / ("a" * 64)
    copy.mkdir(parents=True)
    change = _large_copy(copy, component)
    change(100_000)
    assert collect_copies(settings) == []
    [removed] = collect_copies(settings, whole=True)
    assert removed.reason == "damaged: the content of model.onnx.data was changed"


def _large_copy(copy: Path, component: ComponentFolder) -> Callable[[int], None]:
    """Write a copy of 16 MiB of weights; what is returned changes bytes at an offset and nothing else."""
    (copy / "model.onnx").write_bytes(b"graph")
    weights = copy / "model.onnx.data"
    weights.write_bytes(os.urandom(1 << 20) * 16)
    write_record(copy, component, 1.0)
    stat = weights.stat()

    def change(at: int) -> None:
        with weights.open("r+b") as file:
            file.seek(at)
            file.write(b"\0\1\2\3\4\5\6\7")
        os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    return change


def test_blocks_of_large_weights_are_looked_at(tmp_path: Path, component: ComponentFolder) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    change = _large_copy(copy, component)
    check(copy)
    # between the first block and the second
    change(100_000)
    check(copy)
    with pytest.raises(CompilerError, match=r"the content of model\.onnx\.data was changed"):
        verify(copy)
    change(100)
    with pytest.raises(CompilerError, match=r"the content of model\.onnx\.data was changed"):
        check(copy)


def test_a_lease_keeps_others_from_removing_and_goes_with_its_holder(tmp_path: Path) -> None:
    file = tmp_path / "lease"
    assert Lease.shared(file) is None
    file.touch()
    one, two = Lease.shared(file), Lease.shared(file)
    assert one is not None
    assert two is not None
    assert Lease.alone(file) is None
    one.release()
    one.release()
    assert Lease.alone(file) is None
    del two
    alone = Lease.alone(file)
    assert alone is not None
    assert Lease.shared(file) is None


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"12345")
    assert size_of(tmp_path) == size_of(tmp_path / "a" / "b" / "c") == 5
