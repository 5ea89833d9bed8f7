"""A start where something was live before: what is served first, whatever became of the registry meanwhile."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from components.contract import Kind
from components.reference import ComponentRef
from registry.errors import RegistryAwayError, RegistryError
from registry.registry import Registry
from registry.rollout.outcome import settle
from registry.rollout.plans import plan_canary, plan_promotion
from registry.rollout.standing import in_production
from registry.rollout.state import ROLLOUT_TAG, Canary, Rollout, written
from services.errors import StartError
from services.rollout import start as start_module
from services.rollout.last_good import LastGood
from services.rollout.settings import RolloutSettings
from services.rollout.start import begin

pytestmark = pytest.mark.slow  # a registry of its own for every test

Refs = dict[str, ComponentRef]
Begin = Callable[[], LastGood]


@pytest.fixture
def again(chosen: RolloutSettings) -> Begin:
    """Start, with the registry answering."""

    def made() -> LastGood:
        start, away = begin(chosen)
        assert away is None
        return start

    return made


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The versions that have passed the gate."""
    passed: set[str] = set()
    monkeypatch.setattr(start_module, "passed", lambda version, _tolerance: str(version.ref) in passed)
    return passed


def live(start: LastGood, kind: str = "vae_decoder") -> int:
    ref = start.rollout.ref(f"toy.{kind}")
    assert ref is not None
    return ref.version


def write(registry: Registry, rollout: Rollout) -> None:
    registry.set_bundle_tag("toy", ROLLOUT_TAG, written(rollout))


def point(registry: Registry, kind: str, version: int) -> None:
    with registry.asking() as client:
        client.set_registered_model_alias(f"toy.{kind}", "production", str(version))


@pytest.fixture
def served(registry: Registry) -> Rollout:
    """The record of a server that served the first versions."""
    found = Rollout(components=in_production(registry, "toy", registry.survey("toy")), state="live", plan="a" * 32)
    write(registry, found)
    return found


@pytest.mark.usefixtures("gate")
def test_without_a_record_what_is_in_production_is_live(again: Begin) -> None:
    assert (live(again()), again().rollout.plan) == (1, None)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("passes", [True, False])
def test_an_alias_that_moved_meanwhile(registry: Registry, again: Begin, gate: set[str], passes: bool) -> None:
    point(registry, "vae_decoder", 2)
    gate |= {"toy.vae_decoder/2"} if passes else set()
    found = again()
    assert live(found) == (2 if passes else 1), "what nobody has tried is left to the controller"
    if passes:
        assert found.rollout.previous[2].version == 1
        assert [str(ref) for ref in found.rollout.former] == ["toy.vae_decoder/1"]
        assert found.rollout.former[0] in found.contracts


@pytest.mark.usefixtures("served", "gate")
def test_an_alias_that_a_start_moved_need_not_pass(registry: Registry, refs: Refs, again: Begin) -> None:
    registry.promote_at_start([refs["vae_decoder/2"]])
    assert live(again()) == 2


@pytest.mark.usefixtures("served")
def test_an_alias_moved_to_what_does_not_fit_leaves_what_was_live(
    registry: Registry, again: Begin, gate: set[str]
) -> None:
    point(registry, "vae_decoder", 4)
    gate.add("toy.vae_decoder/4")
    assert live(again()) == 1


@pytest.mark.usefixtures("served", "gate")
@pytest.mark.parametrize("how", ["alias deleted", "damaged"])
def test_an_alias_at_nothing_leaves_what_was_live(registry: Registry, again: Begin, how: str) -> None:
    with registry.asking() as client:
        if how == "damaged":
            client.set_model_version_tag("toy.vae_decoder", "2", "sha256", "no digest")
            client.set_registered_model_alias("toy.vae_decoder", "production", "2")
        else:
            client.delete_registered_model_alias("toy.vae_decoder", "production")
    assert live(again()) == 1


def test_a_canary_that_was_promoted_by_hand_is_none_any_more(
    registry: Registry, refs: Refs, served: Rollout, again: Begin, gate: set[str]
) -> None:
    canary = Canary(ref=refs["vae_decoder/2"], percent=10)
    write(registry, served.model_copy(update={"canary": canary}))
    assert again().rollout.canary == canary
    point(registry, "vae_decoder", 2)
    gate.add("toy.vae_decoder/2")
    assert again().rollout.canary is None


@pytest.mark.usefixtures("gate")
@pytest.mark.parametrize("how", ["damaged", "a name", "gone", "another digest", "another bundle"])
def test_a_record_that_cannot_be_served_leaves_what_is_in_production(
    registry: Registry, refs: Refs, served: Rollout, again: Begin, how: str
) -> None:
    two = refs["vae_decoder/2"]
    changed = {
        "gone": two.model_copy(update={"version": 77}),
        "another digest": two.model_copy(update={"sha256": "0" * 64}),
    }
    if how in changed:
        components = [changed[how] if ref.name == two.name else ref for ref in served.components]
        write(registry, served.model_copy(update={"components": tuple(components)}))
    elif how == "another bundle":
        others = [ref.model_copy(update={"name": ref.name.replace("toy", "other")}) for ref in served.components]
        write(registry, served.model_copy(update={"components": tuple(others)}))
    else:
        text = "{" if how == "damaged" else written(served).replace("toy.denoiser", "nothing")
        registry.set_bundle_tag("toy", ROLLOUT_TAG, text)
    found = again()
    assert (live(found), found.rollout.plan, found.rollout.state) == (1, None, "live")


def test_a_former_version_that_is_gone_is_no_reason_not_to_start(
    registry: Registry, refs: Refs, served: Rollout, again: Begin
) -> None:
    gone = refs["vae_decoder/3"].model_copy(update={"version": 77})
    write(registry, served.model_copy(update={"former": (gone,)}))
    found = again()
    assert found.rollout.former == (gone,)
    assert gone not in found.contracts


def test_what_people_did_while_no_server_ran(registry: Registry, refs: Refs, again: Begin) -> None:
    settle(registry, "toy", plan_promotion(registry, [refs["vae_decoder/2"]]))
    settle(registry, "toy", plan_canary(registry, "toy.vae_decoder", Canary(ref=refs["vae_decoder/3"], percent=5)))
    found = again()
    assert live(found) == 2
    assert found.rollout.canary is not None
    assert {refs["vae_decoder/3"], refs["vae_decoder/1"]} <= found.contracts.keys()


@pytest.mark.parametrize("error", [KeyError("aliases"), RegistryError("refused")])
def test_a_registry_that_is_wrong(
    chosen: RolloutSettings, again: Begin, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = again()

    def wrong(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Registry, "survey", wrong)
    if isinstance(error, RegistryError):
        with pytest.raises(StartError, match="bundle toy: refused"):
            begin(chosen)
        return
    start, away = begin(chosen)
    assert (start.rollout, away) == (first.rollout, "the registry's answer cannot be used: KeyError")
    chosen.memory.unlink()
    with pytest.raises(StartError, match="cannot be used"):
        begin(chosen)


def test_every_live_version_is_in_the_cache_of_this_machine(chosen: RolloutSettings, again: Begin) -> None:
    shutil.rmtree(chosen.registry.cache)
    start = again()
    assert start.rollout.ref(f"toy.{Kind.DENOISER}") is not None
    assert len(list(chosen.registry.cache.iterdir())) >= 4


def test_files_that_do_not_come_leave_what_was_live_on_this_machine(
    registry: Registry, refs: Refs, chosen: RolloutSettings, again: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    again()
    settle(registry, "toy", plan_promotion(registry, [refs["vae_decoder/2"]]))
    fetch: Any = vars(start_module)["fetch"]

    def gone(ref: ComponentRef, settings: Any) -> Any:
        if ref == refs["vae_decoder/2"]:
            raise RegistryAwayError("the store of artifacts does not answer")
        return fetch(ref, settings)

    monkeypatch.setattr(start_module, "fetch", gone)
    start, away = begin(chosen)
    assert (live(start), away) == (1, "the store of artifacts does not answer")


@pytest.mark.parametrize("how", ["set back", "another digest", "its own record knows"])
def test_a_registry_that_lacks_what_was_live_here(
    registry: Registry, refs: Refs, chosen: RolloutSettings, again: Begin, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    settle(registry, "toy", plan_promotion(registry, [refs["vae_decoder/2"]]))
    first = again()
    kept_text = chosen.memory.read_text()
    if how == "its own record knows":
        settle(registry, "toy", plan_promotion(registry, [refs["vae_decoder/3"]]))
    else:
        point(registry, "vae_decoder", 1)
        with registry.asking() as client:
            client.delete_registered_model_tag("toy", ROLLOUT_TAG)
    real = Registry.version

    def other(self: Registry, name: str, version: int) -> Any:
        if (name, version) != ("toy.vae_decoder", 2):
            return real(self, name, version)
        if how != "another digest":
            raise RegistryError("toy.vae_decoder/2 is not in the registry")
        found = real(self, name, version)
        return found.model_copy(update={"ref": found.ref.model_copy(update={"sha256": "0" * 64})})

    monkeypatch.setattr(Registry, "version", other)
    if how == "its own record knows":
        assert live(again()) == 3
        return
    start, away = begin(chosen)
    assert start.rollout == first.rollout
    assert "has not toy.vae_decoder/2, which was live here last" in str(away)
    assert chosen.memory.read_text() == kept_text
    shutil.rmtree(chosen.registry.cache / refs["vae_decoder/2"].sha256)
    assert live(again()) == 1, "without its files nothing else can be served"
