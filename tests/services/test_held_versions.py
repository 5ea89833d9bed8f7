"""Versions are opened once, kept while there is room, never closed under a call, and tried again after a failure."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from components.folder import ComponentFolder
from components.reference import ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.local.cache import ComponentCache
from runtime.errors import RuntimeFault
from services import held_versions
from services.errors import StartError, UnavailableError
from services.held_versions import Fetched, HeldVersions, VersionBounds


def pin(version: int) -> ComponentRef:
    return ComponentRef(name="toy.denoiser", version=version, sha256=f"{version:064x}")


def folder_of(size: int) -> ComponentFolder:
    files = {"model.onnx": SimpleNamespace(size=size), "golden-0.npz": SimpleNamespace(size=10**9)}
    manifest = SimpleNamespace(golden=(SimpleNamespace(file="golden-0.npz"),), files=files, weights="float32")
    return ComponentFolder(Path("toy"), cast(Any, manifest))


class Opened:
    """What was opened, in order."""

    def __init__(self, size: int = 1) -> None:
        self.versions: list[int] = []
        self._size = size

    def held(self, **bounds: int) -> HeldVersions[str]:
        return HeldVersions(self._fetch, self._open, VersionBounds(**bounds))

    def _fetch(self, _ref: ComponentRef) -> Fetched:
        return Fetched(folder_of(self._size), None)

    def _open(self, ref: ComponentRef, _folder: ComponentFolder, _ahead: bool) -> str:
        self.versions.append(ref.version)
        return str(ref)


async def touch(held: HeldVersions[str], version: int) -> str:
    async with held.use(pin(version)) as stage:
        return stage


async def prepared(held: HeldVersions[str]) -> dict[int, str]:
    """The state of every version once nothing is being prepared."""
    while "preparing" in (found := {one.pin.version: one.state for one in held.report()}).values():
        await asyncio.sleep(0.01)
    return {version: str(state) for version, state in found.items()}


def test_calls_at_the_same_time_share_one_opening() -> None:
    opened = Opened()

    async def many() -> set[str]:
        held = opened.held()
        return set(await asyncio.gather(*(touch(held, 1) for _ in range(10))))

    assert asyncio.run(many()) == {"toy.denoiser/1"}
    assert opened.versions == [1]


def test_the_longest_unused_goes_when_there_is_no_room() -> None:
    opened = Opened()

    async def walk() -> None:
        held = opened.held(most=3)
        for version in (1, 2, 3, 1, 4, 1, 3, 4, 2):
            await touch(held, version)

    asyncio.run(walk())
    assert opened.versions == [1, 2, 3, 4, 2], "2 was the longest unused when 4 came"


def test_bytes_are_bounded_too() -> None:
    opened = Opened(size=40)

    async def walk() -> list[int]:
        held = opened.held(most=10, most_bytes=100)
        for version in (1, 2, 3):
            await touch(held, version)
        return [one.pin.version for one in held.report()]

    assert asyncio.run(walk()) == [2, 3]


def test_one_in_use_is_never_closed() -> None:
    opened = Opened()

    async def walk() -> None:
        held = opened.held(most=2)
        async with held.use(pin(1)), held.use(pin(2)):
            with pytest.raises(UnavailableError, match=r"toy.denoiser/3: needs 1 bytes beside 2 versions"):
                await touch(held, 3)
            assert {one.pin.version: one.users for one in held.report() if one.users} == {1: 1, 2: 1}
        assert await touch(held, 3) == "toy.denoiser/3"
        await touch(held, 1)

    asyncio.run(walk())
    assert opened.versions == [1, 2, 3], "2 was let go of before 1"


def test_what_is_wanted_is_opened_and_stays() -> None:
    opened = Opened()

    async def walk() -> dict[int, str]:
        held = opened.held(most=3)
        held.want([pin(1), pin(2)])
        assert {one.state for one in held.report()} == {"preparing"}
        assert await prepared(held) == {1: "loaded", 2: "loaded"}
        for version in (3, 4, 5):
            await touch(held, version)
        return await prepared(held)

    assert asyncio.run(walk()) == {1: "loaded", 2: "loaded", 5: "loaded"}
    assert opened.versions == [1, 2, 3, 4, 5]


def failing(times: int, error: Exception) -> Callable[[ComponentRef, ComponentFolder, bool], str]:
    tries = 0

    def open_stage(ref: ComponentRef, _folder: ComponentFolder, _ahead: bool) -> str:
        nonlocal tries
        tries += 1
        if tries <= times:
            raise error
        return str(ref)

    return open_stage


def test_a_failed_opening_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_versions, "_RETRY_S", 0.0)

    async def walk() -> None:
        held = HeldVersions(
            lambda _ref: Fetched(folder_of(1), None), failing(2, RuntimeFault("it is damaged")), VersionBounds()
        )
        with pytest.raises(StartError, match=r"toy.denoiser/1: it is damaged"):
            await touch(held, 1)
        held.want([pin(1)])
        assert await prepared(held) == {1: "failed"}
        assert [one.reason for one in held.report()] == ["it is damaged"]
        while await prepared(held) == {1: "failed"}:
            held.want([pin(1)])
            await asyncio.sleep(0)
        assert await prepared(held) == {1: "loaded"}

    asyncio.run(walk())


def test_a_failed_version_that_is_wanted_is_not_tried_all_the_time() -> None:
    tries = []

    def open_stage(ref: ComponentRef, _folder: ComponentFolder, _ahead: bool) -> str:
        tries.append(ref)
        raise RuntimeFault("it is damaged")

    async def walk() -> None:
        held = HeldVersions(lambda _ref: Fetched(folder_of(1), None), open_stage, VersionBounds())
        for _ in range(5):
            held.want([pin(1)])
            await prepared(held)

    asyncio.run(walk())
    assert len(tries) == 1


def test_a_caller_that_goes_away_does_not_stop_the_others() -> None:
    async def leave() -> str:
        held = Opened().held()
        first = asyncio.create_task(touch(held, 1))
        second = asyncio.create_task(touch(held, 1))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(leave()) == "toy.denoiser/1"


def test_what_is_wanted_most_takes_the_room_of_what_is_wanted_less() -> None:
    opened = Opened()

    async def run() -> None:
        held = opened.held(most=3)
        held.want([pin(1), pin(8), pin(9)])
        assert await prepared(held) == {1: "loaded", 8: "loaded", 9: "loaded"}
        held.want([pin(1), pin(2), pin(8), pin(9)])
        assert await prepared(held) == {1: "loaded", 2: "loaded", 8: "loaded", 9: "failed"}
        assert opened.versions == [1, 8, 9, 2], "and the last does not take it back"
        held.want([pin(1), pin(2), pin(9), pin(8)])
        held.want([pin(1), pin(2), pin(3), pin(4)])
        assert await prepared(held) == {1: "loaded", 2: "loaded", 3: "loaded", 4: "failed"}
        with pytest.raises(UnavailableError):
            await touch(held, 7)
        async with held.use(pin(3)):
            held.want([pin(5), pin(1), pin(2), pin(3)])
            found = await prepared(held)
            assert (found[3], found[5]) == ("loaded", "loaded"), "what is in use stays, however little it is wanted"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "passes_with"),
    [(RegistryAwayError("it does not answer"), "registry"), (RegistryError("it is damaged"), None)],
)
def test_a_failure_that_passes_is_told_as_such(error: RegistryError, passes_with: str | None) -> None:
    def fetch(_ref: ComponentRef) -> Fetched:
        raise error

    async def run() -> None:
        held = HeldVersions(fetch, Opened()._open, VersionBounds())
        held.want([pin(1)])
        assert await prepared(held) == {1: "failed"}
        assert [one.passes_with for one in held.report()] == [passes_with]

    asyncio.run(run())


def test_want_of_room_passes() -> None:
    async def run() -> None:
        held = Opened().held(most=2)
        async with held.use(pin(1)), held.use(pin(2)):
            held.want([pin(3)])
            await prepared(held)
            assert {one.pin.version: one.passes_with for one in held.report()} == {1: None, 2: None, 3: "room"}

    asyncio.run(run())


def test_whatever_breaks_an_opening_is_an_error_of_ours() -> None:
    async def run() -> None:
        held = HeldVersions(
            lambda _ref: Fetched(folder_of(1), None),
            failing(1, OSError(28, "No space left", "/secret")),
            VersionBounds(),
        )
        with pytest.raises(StartError, match=r"^toy.denoiser/1: something went wrong: OSError$"):
            await touch(held, 1)
        assert await touch(held, 1) == "toy.denoiser/1"

    asyncio.run(run())


def test_a_cache_whose_disk_is_full_is_the_registrys_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("registry.local.cache.tempfile.mkdtemp", full)
    with pytest.raises(RegistryError, match="cannot be written: No space left on device"):
        ComponentCache(tmp_path / "cache").add(pin(1), lambda _folder: None)


def test_only_what_nobody_wants_or_uses_is_let_go_of() -> None:
    async def run() -> None:
        held = Opened().held()
        held.want([pin(1)])
        await prepared(held)
        assert not held.let_go(pin(1))
        async with held.use(pin(2)):
            assert held.let_go(pin(2))
            assert held.holds(pin(2)), "never closed under a call"
        assert held.let_go(pin(2))
        assert (held.holds(pin(1)), held.holds(pin(2))) == (True, False)

    asyncio.run(run())


def test_what_is_open_and_how_long_it_took_is_told() -> None:
    open_now: list[dict[int, int]] = []
    took: list[tuple[int, float]] = []

    async def run() -> None:
        held = HeldVersions(
            lambda _ref: Fetched(folder_of(7), None),
            failing(1, RuntimeFault("it is damaged")),
            VersionBounds(),
            lambda sizes: open_now.append({ref.version: size for ref, size in sizes.items()}),
            lambda ref, seconds: took.append((ref.version, seconds)),
        )
        with pytest.raises(StartError):
            await touch(held, 1)
        for version in (1, 1, 2):
            await touch(held, version)
        assert held.let_go(pin(1))

    asyncio.run(run())
    assert [version for version, _ in took] == [1, 2], "one that is open already, or failed, was not loaded"
    assert all(seconds > 0 for _, seconds in took)
    assert open_now[-1] == {2: 7}
    assert {1: 7, 2: 7} in open_now
