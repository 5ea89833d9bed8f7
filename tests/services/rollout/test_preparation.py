"""Who has prepared, who is replaced, and when there is no hope."""

import pytest

from components.contract import Kind
from components.reference import ComponentRef
from services.messages import LiveModel, ReplicaReport
from services.rollout.preparation import Preparation
from services.rollout.stages import Reports
from tests.services.rollout.conftest import State, ref_of, report

EACH_S = 10.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def new(live: LiveModel) -> ComponentRef:
    return ref_of(live, Kind.VAE_DECODER, 2)


@pytest.fixture
def preparation(new: ComponentRef, clock: Clock) -> Preparation:
    return Preparation([new], EACH_S, clock)


def decoders(*replicas: ReplicaReport) -> Reports:
    return {Kind.VAE_DECODER: replicas}


def one(new: ComponentRef, **states: State) -> Reports:
    return decoders(*(report(name, (new, state)) for name, state in states.items()))


def test_nothing_new_is_ready_at_once(clock: Clock) -> None:
    assert Preparation([], EACH_S, clock).ready({})


def test_all_replicas_that_run_must_have_it(preparation: Preparation, new: ComponentRef) -> None:
    assert not preparation.ready(one(new, a="loaded", b="preparing"))
    assert not preparation.ready(decoders(report("a", (new, "loaded")), report("b"))), "b does not know it yet"
    assert not preparation.ready(one(new, a="loaded", b="loaded", c="preparing")), "c came later"
    assert preparation.ready(one(new, a="loaded", b="loaded", c="loaded"))
    assert (preparation.replaced, preparation.failed) == (set(), None)


def test_a_stage_that_rests_has_nothing_to_prepare(preparation: Preparation, new: ComponentRef) -> None:
    assert not preparation.ready(decoders()), "one may be starting"
    assert preparation.ready(decoders(), {Kind.VAE_DECODER})
    assert not preparation.ready(decoders(), {Kind.DENOISER})
    assert not preparation.ready(one(new, a="preparing"), {Kind.VAE_DECODER}), "it does not rest any more"
    assert preparation.failed is None


def test_a_stage_that_comes_to_rest_when_its_replica_could_not_prepare_is_not_ready(
    preparation: Preparation, new: ComponentRef, clock: Clock
) -> None:
    assert not preparation.ready(one(new, a="failed"))
    assert preparation.replaced == {"a"}
    assert not preparation.ready(decoders(), {Kind.VAE_DECODER})
    clock.now = EACH_S
    assert not preparation.ready(decoders(), {Kind.VAE_DECODER})
    assert preparation.failed is not None


def test_every_stage_must_be_ready(live: LiveModel, new: ComponentRef, clock: Clock) -> None:
    text = ref_of(live, Kind.TEXT_ENCODER, 2)
    preparation = Preparation([new, text], EACH_S, clock)
    assert not preparation.ready(one(new, a="loaded"))
    assert preparation.ready({**one(new, a="loaded"), Kind.TEXT_ENCODER: (report("t", (text, "loaded")),)})


def test_one_that_vanishes_is_not_waited_for(preparation: Preparation, new: ComponentRef) -> None:
    assert not preparation.ready(one(new, a="loaded", b="preparing"))
    assert preparation.ready(one(new, a="loaded"))


def test_without_any_replica_it_fails_in_time(preparation: Preparation, clock: Clock) -> None:
    assert not preparation.ready({})
    assert preparation.failed is None
    clock.now = EACH_S
    assert not preparation.ready(decoders())
    assert preparation.failed == "vae_decoder: no replica has prepared within 10 s"


@pytest.mark.parametrize("how", ["failed", "late"])
def test_one_that_cannot_is_replaced_once(preparation: Preparation, new: ComponentRef, clock: Clock, how: str) -> None:
    state: State = "failed" if how == "failed" else "preparing"
    clock.now = EACH_S - 1 if how == "failed" else EACH_S
    assert not preparation.ready(one(new, a="loaded", b=state))
    assert (preparation.replaced, preparation.failed) == ({"b"}, None)
    assert not preparation.ready(one(new, a="loaded", b="loaded")), "it is on its way out"
    replaced_at, clock.now = clock.now, clock.now + EACH_S - 1
    assert not preparation.ready(one(new, a="loaded", c="preparing")), "the one in its place has as long"
    assert preparation.failed is None
    clock.now = replaced_at + EACH_S if how == "late" else clock.now
    assert not preparation.ready(one(new, a="loaded", c=state))
    why = "could not be prepared: it is broken" if how == "failed" else "was not prepared within 10 s"
    assert preparation.failed == f"vae_decoder: toy.vae_decoder/2 {why}"
    assert preparation.replaced == {"b"}, "once"


def test_the_one_in_its_place_may_do_better(preparation: Preparation, new: ComponentRef) -> None:
    assert not preparation.ready(one(new, a="failed"))
    assert not preparation.ready(decoders()), "nobody is there"
    assert preparation.ready(one(new, b="loaded"))
    assert preparation.failed is None


def test_several_that_fail_at_once_are_no_chance(preparation: Preparation, new: ComponentRef) -> None:
    assert not preparation.ready(one(new, a="failed", b="failed", c="loaded"))
    assert preparation.failed == "vae_decoder: toy.vae_decoder/2 could not be prepared: it is broken"
    assert preparation.replaced == set()


def test_stages_are_replaced_independently(live: LiveModel, new: ComponentRef, clock: Clock) -> None:
    text = ref_of(live, Kind.TEXT_ENCODER, 2)
    preparation = Preparation([new, text], EACH_S, clock)
    broken = {**one(new, a="failed"), Kind.TEXT_ENCODER: (report("t", (text, "failed")),)}
    assert not preparation.ready(broken)
    assert (preparation.replaced, preparation.failed) == ({"a", "t"}, None)


@pytest.mark.parametrize(("state", "away"), [("away", True), ("no room", False)])
def test_what_passes_is_waited_for_and_costs_no_replica(
    preparation: Preparation, new: ComponentRef, clock: Clock, state: State, away: bool
) -> None:
    assert not preparation.ready(one(new, a=state))
    assert (preparation.replaced, preparation.failed) == (set(), None)
    clock.now = EACH_S
    assert not preparation.ready(one(new, a=state))
    assert preparation.replaced == set()
    assert "toy.vae_decoder/2 could not be prepared" in str(preparation.failed)
    assert preparation.away == away
    assert preparation.ready(one(new, a="loaded"))


def test_a_fault_that_stays_goes_before_one_that_passes(
    preparation: Preparation, new: ComponentRef, clock: Clock
) -> None:
    clock.now = EACH_S
    assert not preparation.ready(one(new, a="away", b="failed", c="failed"))
    assert (preparation.failed, preparation.away) == (
        "vae_decoder: toy.vae_decoder/2 could not be prepared: it is broken",
        False,
    )
