"""Versions are opened once, kept while there is room, and tried again after a failure."""

import asyncio

import pytest

from components.reference import ComponentRef
from services.shelf import MOST_OPEN, Shelf


def pin(version: int) -> ComponentRef:
    return ComponentRef(name="toy.denoiser", version=version, sha256=f"{version:064x}")


def test_calls_at_the_same_time_share_one_opening() -> None:
    opened: list[ComponentRef] = []

    def open_stage(ref: ComponentRef) -> str:
        opened.append(ref)
        return str(ref)

    async def many() -> set[str]:
        shelf = Shelf(open_stage)
        return set(await asyncio.gather(*(shelf.get(pin(1)) for _ in range(10))))

    assert asyncio.run(many()) == {"toy.denoiser/1"}
    assert opened == [pin(1)]


def test_only_the_newest_stay() -> None:
    opened: list[int] = []

    async def walk() -> None:
        shelf = Shelf(lambda ref: opened.append(ref.version))
        for version in (*range(1, MOST_OPEN + 2), MOST_OPEN + 1, 1):
            await shelf.get(pin(version))

    asyncio.run(walk())
    assert opened == [*range(1, MOST_OPEN + 2), 1]


def test_a_failed_opening_is_tried_again() -> None:
    tries = 0

    def open_stage(ref: ComponentRef) -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("not yet")
        return str(ref)

    async def twice() -> str:
        shelf = Shelf(open_stage)
        with pytest.raises(OSError, match="not yet"):
            await shelf.get(pin(1))
        return await shelf.get(pin(1))

    assert asyncio.run(twice()) == "toy.denoiser/1"


def test_a_caller_that_goes_away_does_not_stop_the_others() -> None:
    async def leave() -> str:
        shelf = Shelf(str)
        first = asyncio.create_task(shelf.get(pin(1)))
        second = asyncio.create_task(shelf.get(pin(1)))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(leave()) == "toy.denoiser/1"
