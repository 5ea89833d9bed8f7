"""A store whose place takes its time to let go of files: who waits for it, and who does not."""

import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from services.files.store import Dropped, FileStore, StoreSettings
from tests.services.places import PlaceLike

BLOCK = 4096
BEGAN = 1_800_000_000.0


class House:
    """A store of four blocks, with a clock of its own."""

    def __init__(self, place: PlaceLike) -> None:
        self.now = BEGAN
        self.dropped: list[Dropped] = []
        settings = StoreSettings(store=place.store, most_bytes=4 * BLOCK, keep_s=60)
        self.store = FileStore(settings, "latents", ".npz", self.dropped.append, lambda: self.now)


@pytest.fixture
def house(place: PlaceLike) -> House:
    return House(place)


def held_up(house: House, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """The place lets go of files once the second event is set; the first says that it was asked to."""
    asked, go_on = threading.Event(), threading.Event()
    remove = house.store.blobs.remove

    def later(names: Collection[str]) -> None:
        if names:
            asked.set()
            go_on.wait()
        remove(names)

    monkeypatch.setattr(house.store.blobs, "remove", later)
    return asked, go_on


def test_nobody_else_waits_while_the_place_lets_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    store = house.store
    old = [store.keep(b"old") for _ in range(2)]
    house.now += 61
    asked, go_on = held_up(house, monkeypatch)
    with ThreadPoolExecutor(1) as threads:
        sweeping = threads.submit(store.sweep)
        try:
            asked.wait()
            new = store.keep(b"new")
            assert store.read(new) == b"new"
            assert (store.count, store.size) == (3, 3 * BLOCK), "what is not let go of yet counts"
            assert not sweeping.done()
        finally:
            go_on.set()
        sweeping.result()
    assert (store.count, store.size, house.dropped) == (1, BLOCK, ["expired"] * 2)
    assert [store.read(id_) for id_ in (*old, new)] == [None, None, b"new"]


def test_who_needs_the_room_waits_for_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    store = house.store
    for _ in range(4):
        store.keep(b"old")
    asked, go_on = held_up(house, monkeypatch)
    with ThreadPoolExecutor(2) as threads:
        keeping = [threads.submit(store.keep, bytes([number])) for number in range(2)]
        try:
            asked.wait()
            assert store.size == 4 * BLOCK
            assert not any(one.done() for one in keeping)
        finally:
            go_on.set()
        kept = [one.result() for one in keeping]
    assert (store.count, store.size, house.dropped) == (4, 4 * BLOCK, ["full"] * 2)
    assert sorted(store.read(id_) or b"" for id_ in kept) == [b"\0", b"\1"]


def test_the_bound_holds_whoever_keeps_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    store = house.store
    write, remove = store.blobs.write, store.blobs.remove
    there, most, lock = set[str](), 0, threading.Lock()

    def watched_write(name: str, content: bytes) -> None:
        nonlocal most
        with lock:
            there.add(name)
            most = max(most, len(there))
        write(name, content)

    def watched_remove(names: Collection[str]) -> None:
        remove(names)
        with lock:
            there.difference_update(names)

    monkeypatch.setattr(store.blobs, "write", watched_write)
    monkeypatch.setattr(store.blobs, "remove", watched_remove)
    kept: list[Any] = []
    with ThreadPoolExecutor(4) as threads:
        kept += threads.map(store.keep, [bytes([number]) for number in range(24)])
    assert (most, set(store.blobs.sizes())) == (4, there)
    assert (store.count, store.size) == (4, 4 * BLOCK)
    assert house.dropped == ["full"] * 20
    assert [store.read(id_) for id_ in kept].count(None) == 20
