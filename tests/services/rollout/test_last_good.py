"""What is live is on disk whole or not at all, and a file that is damaged is as good as none."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from components.contract import Kind
from components.reference import ComponentRef
from registry.rollout.state import Canary, Rollout
from services.messages import LiveModel
from services.rollout.last_good import KnownVersion, LastGood, keep, kept, live_model
from services.rollout.memory import Memory
from tests.services.rollout.conftest import ref_of


@pytest.fixture
def good(live: LiveModel) -> LastGood:
    return LastGood(
        rollout=Rollout(components=tuple(live.pins.values()), state="live"),
        versions=tuple(KnownVersion(ref=pin, contract=live.contracts[kind]) for kind, pin in live.pins.items()),
        aliases={"toy.vae_decoder": {"production": live.pins[Kind.VAE_DECODER]}},
    )


def test_what_is_kept_comes_back(good: LastGood, live: LiveModel, tmp_path: Path) -> None:
    file = tmp_path / "a new folder" / "toy.json"
    assert kept(file) is None
    keep(file, good)
    keep(file, good)
    assert kept(file) == good
    found = live_model("toy", good.rollout, good.contracts)
    assert (found.pins, found.contracts) == (live.pins, live.contracts)
    assert [path.name for path in file.parent.iterdir()] == ["toy.json"], "no work is left"


def test_a_write_that_breaks_off_leaves_the_last(
    good: LastGood, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "toy.json"
    keep(file, good)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    other = good.model_copy(update={"aliases": {}})
    with pytest.raises(OSError, match="No space left"):
        keep(file, other)
    assert kept(file) == good
    assert [path.name for path in tmp_path.iterdir()] == ["toy.json"]


@pytest.mark.parametrize("damage", ["cut", "empty", "no text", "another's", "a name", "a contract is missing"])
def test_a_damaged_file_is_none(good: LastGood, live: LiveModel, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "toy.json"
    keep(file, good)
    text = file.read_text()
    if damage == "a contract is missing":
        canary = Canary(ref=ref_of(live, Kind.VAE_DECODER, 2), percent=5)
        keep(file, good.model_copy(update={"rollout": good.rollout.model_copy(update={"canary": canary})}))
    else:
        damaged = {
            "cut": text[: len(text) // 2].encode(),
            "empty": b"",
            "no text": b"\xff" * 100,
            "another's": b'{"rollout": 5}',
            "a name": text.replace("toy.vae_decoder", "no component").encode(),
        }
        file.write_bytes(damaged[damage])
    assert kept(file) is None


def test_a_plan_under_way_is_taken_up_again(good: LastGood, tmp_path: Path) -> None:
    rollout = good.rollout.model_copy(update={"state": "preparing", "plan": "a" * 32})
    keep(tmp_path / "toy.json", good.model_copy(update={"rollout": rollout}))
    found = kept(tmp_path / "toy.json")
    assert found is not None
    assert (found.rollout.state, found.rollout.plan) == ("live", None)


def test_a_second_component_of_a_kind_is_no_part(live: LiveModel) -> None:
    second = ComponentRef(name="toy.vae_decoder.tiny", version=1, sha256="0" * 64)
    rollout = Rollout(components=(*live.pins.values(), second), state="live")
    contracts = {pin: live.contracts[kind] for kind, pin in live.pins.items()}
    assert live_model("toy", rollout, contracts).pins == live.pins


def test_the_newest_decision_is_written_last(good: LastGood) -> None:
    written: list[Rollout] = []
    let_go, begun = threading.Event(), threading.Event()

    def slowly(last_good: LastGood) -> None:
        begun.set()
        let_go.wait()
        written.append(last_good.rollout)

    async def run() -> None:
        memory = Memory(slowly)
        await memory.write()
        assert not begun.is_set(), "there is nothing to write"
        first, second = good.rollout, good.rollout.model_copy(update={"reason": "newer"})
        memory.keep(first, {}, good.contracts)
        one = asyncio.create_task(memory.write())
        await asyncio.to_thread(begun.wait)
        memory.keep(second, {}, good.contracts)
        two: Any = asyncio.create_task(memory.write())
        let_go.set()
        await asyncio.gather(one, two)
        assert written == [first, second]
        await memory.write()
        assert written == [first, second], "once each"

    asyncio.run(run())
