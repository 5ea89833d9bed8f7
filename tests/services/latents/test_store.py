"""The store of latents: what comes back, to whom, for how long, within how many bytes, and from what damage."""

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.contract import Kind
from services.errors import LatentsNotFoundError, LatentsNotKeptError, StartError
from services.files.store import StoreSettings
from services.latents.records import KeptLatents
from services.latents.store import LatentStore
from services.messages import LiveModel
from tests.requests import image_request
from tests.services.places import FolderPlace, PlaceLike

SECRET = "canary-9d21"
BLOCK = 4096


class House:
    """A store in a place, with a clock to be set, and what it dropped."""

    def __init__(self, place: PlaceLike) -> None:
        self.place = place
        self.now = 1_800_000_000.0
        self.dropped: list[str] = []

    def open(self, most_bytes: int = 2**20, keep_s: float = 60.0) -> LatentStore:
        settings = StoreSettings(store=self.place.store, most_bytes=most_bytes, keep_s=keep_s)
        return LatentStore(settings, self.dropped.append, lambda: self.now)

    @property
    def files(self) -> list[str]:
        return self.place.files


@pytest.fixture
def house(place: PlaceLike) -> House:
    return House(place)


@pytest.fixture
def kept(live: LiveModel) -> KeptLatents:
    latents = np.random.default_rng(0).standard_normal((1, 4, 8, 8), np.float32)
    latents.flags.writeable = False
    request = image_request(
        prompt=SECRET, negative_prompt=SECRET, width=64, height=64, seed=7, subseed=8, subseed_strength=0.25, n=1
    )
    return KeptLatents(
        latents=latents,
        request=request,
        pins=live.pins,
        contract=live.contracts[Kind.DENOISER],
        negative_prompt_truncated=True,
    )


def missing(store: LatentStore, id_: str, tenant: str = "") -> bool:
    try:
        store.read(id_, tenant)
    except LatentsNotFoundError:
        return True
    return False


def test_what_is_kept_comes_back_without_its_texts(house: House, kept: KeptLatents) -> None:
    store = house.open()
    found = store.read(store.keep(kept, "me"), "me")
    np.testing.assert_array_equal(found.latents, kept.latents)
    assert found.latents.dtype == np.float32
    assert found.request == replace(kept.request, prompt="", negative_prompt="")
    assert (found.pins, found.contract) == (kept.pins, kept.contract)
    assert (found.prompt_truncated, found.negative_prompt_truncated) == (False, True)


def test_ids_cannot_be_guessed_and_files_tell_no_secret(house: House, kept: KeptLatents) -> None:
    store = house.open()
    ids = {store.keep(kept, SECRET) for _ in range(50)}
    assert len({id_[:22] for id_ in ids}) == 50
    assert house.files == sorted(f"{id_}.npz" for id_ in ids)
    assert not [name for name in house.files if SECRET.encode() in house.place.read(name)]


def test_nobody_else_on_the_machine_reads_them(folder_place: FolderPlace, kept: KeptLatents) -> None:
    folder = folder_place.path
    before = os.umask(0)
    try:
        House(FolderPlace(folder / "made")).open()
        id_ = House(folder_place).open().keep(kept, "me")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "made").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / f"{id_}.npz").stat().st_mode) == 0o600


def test_only_whose_they_are_may_have_them(house: House, kept: KeptLatents) -> None:
    store = house.open()
    mine, nobodys = store.keep(kept, "me"), store.keep(kept, "")
    assert missing(store, mine, "you")
    assert missing(store, mine, "")
    assert missing(store, nobodys, "me")
    with pytest.raises(LatentsNotFoundError) as hidden:
        store.read(mine, "you")
    with pytest.raises(LatentsNotFoundError) as unknown:
        store.read(f"{'x' * 22}ffffffff", "you")
    assert hidden.value.message == unknown.value.message
    assert (hidden.value.status, hidden.value.code, hidden.value.param) == (404, "latents_not_found", "id")
    assert not missing(store, mine, "me")
    assert not missing(store, nobodys, "")


@pytest.mark.parametrize(
    "id_", ["", "a", "../../etc/passwd", "x" * 22, "x" * 30, f"{'x' * 22}ffffffff", f"{'/' * 22}ffffffff", "\0" * 30]
)
def test_ids_that_are_none(house: House, kept: KeptLatents, id_: str) -> None:
    store = house.open()
    store.keep(kept, "")
    assert missing(store, id_)


def test_they_end(house: House, kept: KeptLatents) -> None:
    store = house.open(keep_s=60)
    first = store.keep(kept, "")
    house.now += 59.9
    second = store.keep(kept, "")
    assert not missing(store, first)
    house.now += 0.2
    assert missing(store, first)
    assert not missing(store, second)
    store.sweep()
    assert (house.files, store.count, house.dropped) == ([f"{second}.npz"], 1, ["expired"])


def test_a_restart_finds_them(house: House, kept: KeptLatents) -> None:
    id_ = house.open(keep_s=60).keep(kept, "me")
    house.place.write("notes.txt", b"not ours")
    again = house.open(keep_s=1)
    assert (again.count, again.size) == (1, BLOCK * -(-len(house.place.read(f"{id_}.npz")) // BLOCK))
    # the time that they were promised is theirs
    house.now += 30
    assert not missing(again, id_, "me")
    assert house.files == sorted([f"{id_}.npz", "notes.txt"])
    house.now += 31
    later = house.open(keep_s=60)
    assert (later.count, later.size, house.files) == (0, 0, ["notes.txt"])


def test_the_oldest_make_room(house: House, kept: KeptLatents) -> None:
    one = house.open()
    one.keep(kept, "")
    size = one.size
    store = house.open(most_bytes=3 * size)
    ids = []
    for _ in range(6):
        house.now += 1
        ids.append(store.keep(kept, ""))
        assert store.size <= 3 * size
    assert [missing(store, id_) for id_ in ids] == [True] * 3 + [False] * 3
    assert house.dropped == ["full"] * 4
    smaller = house.open(most_bytes=size)
    assert (smaller.count, house.files) == (1, [f"{ids[-1]}.npz"])
    with pytest.raises(LatentsNotKeptError, match="latents.most_bytes"):
        house.open(most_bytes=size - 1).keep(kept, "")


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-30],
    "an array": lambda content: content[content.index(b"\x93NUMPY") :],
    "of something else": lambda _: b"\x80\x04N." * 100,
    "flipped in the array": lambda content: flip(content, content.index(b"\x93NUMPY") + 300),
    "flipped in a shape": lambda content: flip(content, content.index(b"(1, 4, 8, 8)") + 1),
    "flipped in the facts": lambda content: flip(content, content.rindex(b"toy.denoiser")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_removed(
    house: House, kept: KeptLatents, damage: Callable[[bytes], bytes], serve_log: pytest.LogCaptureFixture
) -> None:
    store = house.open()
    id_ = store.keep(kept, "")
    house.place.write(f"{id_}.npz", damage(house.place.read(f"{id_}.npz")))
    assert missing(store, id_)
    assert (house.files, store.count, store.size, house.dropped) == ([], 0, 0, ["damaged"])
    assert len(serve_log.messages) == 1
    assert id_ not in serve_log.text
    assert missing(store, id_)


def test_any_flipped_bit_is_found_out_or_does_nothing(folder_place: FolderPlace, kept: KeptLatents) -> None:
    store = House(folder_place).open(most_bytes=2**24)
    whole = folder_place.read(f"{store.keep(kept, '')}.npz")
    for at in np.random.default_rng(1).integers(0, len(whole), 200).tolist():
        id_ = store.keep(kept, "")
        folder_place.write(f"{id_}.npz", flip(whole, at))
        if not missing(store, id_):
            np.testing.assert_array_equal(store.read(id_, "").latents, kept.latents)


@pytest.mark.parametrize(
    "latents",
    [np.zeros((1, 4, 8, 9), np.float32), np.zeros((1, 3, 8, 8), np.float32), np.zeros((1, 4, 8, 8), np.float64)],
)
def test_an_array_that_is_not_what_its_facts_say_is_no_latents(house: House, kept: KeptLatents, latents: Any) -> None:
    store = house.open()
    assert missing(store, store.keep(replace(kept, latents=latents), ""))


def test_a_file_that_went_by_itself(house: House, kept: KeptLatents) -> None:
    store = house.open()
    id_ = store.keep(kept, "")
    house.place.remove(f"{id_}.npz")
    assert missing(store, id_)
    house.now += 100
    store.sweep()
    assert (store.count, store.size) == (0, 0)


def test_what_was_half_written_goes_at_the_start(folder_place: FolderPlace) -> None:
    House(folder_place).open()
    folder_place.write(f"{'x' * 22}ffffffff.npz.part", b"half a file")
    assert House(folder_place).open().count == 0
    assert folder_place.files == []


def test_a_full_disk_is_no_fault_and_leaves_nothing(
    folder_place: FolderPlace, kept: KeptLatents, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = House(folder_place).open()
    first = store.keep(kept, "")
    write = Path.write_bytes

    def full(file: Path, content: bytes) -> int:
        write(file, content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(LatentsNotKeptError, match="No space left on device"):
        store.keep(kept, "")
    assert (folder_place.files, store.count) == ([f"{first}.npz"], 1)
    assert store.size == House(folder_place).open().size


def test_a_folder_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StartError, match="latents.store=.*: (Not a directory|File exists)"):
        House(FolderPlace(tmp_path / "file")).open()
    with pytest.raises(StartError, match="latents.store=.*: Not a directory"):
        House(FolderPlace(tmp_path / "file" / "deeper")).open()


def test_many_at_a_time(house: House, kept: KeptLatents) -> None:
    store = house.open(most_bytes=40 * BLOCK)

    def work(number: int) -> None:
        # gone already where others needed the room
        missing(store, store.keep(kept, str(number)), str(number))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(100)))
    on_disk = sum(BLOCK * -(-len(house.place.read(name)) // BLOCK) for name in house.files)
    assert store.size == on_disk <= 40 * BLOCK
    assert store.count == len(house.files)
