"""Pictures behind signed links: who sees them, for how long, within how many bytes, and after a restart."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from services.errors import FileNotKeptError, LinkExpiredError, LinkSignatureError, StartError
from services.files.pictures import Link, PictureStore
from services.files.store import StoreSettings
from tests.services.places import FolderPlace, PlaceLike

BLOCK = 4096
DATA = b"the bytes of a picture"


class House:
    """A store in a place, with a clock to be set, and what it dropped."""

    def __init__(self, place: PlaceLike) -> None:
        self.place = place
        self.now = 1_800_000_000.0
        self.dropped: list[str] = []

    def open(self, most_bytes: int = 2**20, keep_s: float = 60.0) -> PictureStore:
        settings = StoreSettings(store=self.place.store, most_bytes=most_bytes, keep_s=keep_s)
        return PictureStore(settings, self.dropped.append, lambda: self.now)

    @property
    def pictures(self) -> list[str]:
        return [name for name in self.place.files if name.endswith(".picture")]


@pytest.fixture
def house(place: PlaceLike) -> House:
    return House(place)


def test_a_link_shows_its_picture_until_it_ends(house: House) -> None:
    store = house.open(keep_s=60)
    link = store.keep(DATA, "webp")
    assert link.name.endswith(".webp")
    assert link.expires == house.now + 60
    house.now += 59
    assert store.read(link) == DATA
    house.now += 1
    with pytest.raises(LinkExpiredError) as over:
        store.read(link)
    assert (over.value.status, over.value.param) == (410, "expires")
    store.sweep()
    assert (house.pictures, store.count, store.size, house.dropped) == ([], 0, 0, ["expired"])


@pytest.mark.parametrize(
    "change",
    [
        {"signature": ""},
        {"signature": "x" * 43},
        {"signature": "\udcff" * 43},
        {"expires": 1_900_000_000},
        {"expires": 0},
        {"name": ""},
        {"name": "key"},
        {"name": "../key.png"},
        {"name": f"{'x' * 22}{1_800_000_060:08x}.png"},
        {"name": "\ud800"},
    ],
    ids=repr,
)
def test_what_is_no_link_of_ours_shows_nothing(house: House, change: dict[str, str | int]) -> None:
    store = house.open()
    link = store.keep(DATA, "png")
    with pytest.raises(LinkSignatureError) as wrong:
        store.read(replace(link, **change))  # type: ignore[arg-type]  # as a caller may write it
    assert wrong.value.status == 403


def test_every_part_of_a_link_is_signed(house: House) -> None:
    store = house.open()
    first, second = store.keep(DATA, "png"), store.keep(b"another", "png")
    house.now += 1
    third = store.keep(DATA, "png")
    for forged in (
        replace(first, signature=second.signature),
        replace(first, name=first.name.replace(".png", ".webp")),
        replace(first, expires=third.expires),
    ):
        with pytest.raises(LinkSignatureError):
            store.read(forged)


def test_links_work_after_a_restart_and_not_elsewhere(house: House, tmp_path: Path) -> None:
    link = house.open().keep(DATA, "png")
    house.place.write("key.part", b"half a key")
    assert house.open().read(link) == DATA
    with pytest.raises(LinkSignatureError):
        House(FolderPlace(tmp_path / "elsewhere")).open().read(link)


def test_a_key_that_is_not_whole_is_replaced(house: House) -> None:
    link = house.open().keep(DATA, "png")
    house.place.write("key", b"short")
    again = house.open()
    with pytest.raises(LinkSignatureError):
        again.read(link)
    assert house.open().read(again.keep(DATA, "png")) == DATA


def test_nobody_else_on_the_machine_reads_key_or_pictures(folder_place: FolderPlace) -> None:
    House(folder_place).open().keep(DATA, "png")
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder_place.path.iterdir()} == {0o600}
    assert len(folder_place.files) == 2


def test_the_oldest_make_room(house: House) -> None:
    store = house.open(most_bytes=3 * BLOCK)
    links: list[Link] = []
    for number in range(5):
        house.now += 1
        links.append(store.keep(bytes([number]), "png"))
        assert store.size <= 3 * BLOCK
    for number, link in enumerate(links[:2]):
        with pytest.raises(LinkExpiredError) as gone:
            store.read(link)
        assert (number, gone.value.status) == (number, 410)
    assert [store.read(link) for link in links[2:]] == [b"\2", b"\3", b"\4"]
    assert house.dropped == ["full"] * 2
    with pytest.raises(FileNotKeptError, match="links.most_bytes"):
        store.keep(b"x" * 3 * BLOCK, "png")


@pytest.mark.parametrize("damage", [b"", DATA, b"x" * 54], ids=["empty", "without its digest", "of something else"])
def test_a_damaged_picture_is_not_shown(house: House, damage: bytes, serve_log: pytest.LogCaptureFixture) -> None:
    store = house.open()
    link = store.keep(DATA, "png")
    house.place.write(house.pictures[0], damage)
    with pytest.raises(LinkExpiredError):
        store.read(link)
    assert (house.pictures, house.dropped, len(serve_log.messages)) == ([], ["damaged"], 1)
    assert link.name not in serve_log.text


def test_a_folder_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StartError, match="links.store=.*: (Not a directory|File exists)"):
        House(FolderPlace(tmp_path / "file")).open()
