"""A controller on a real registry (MLflow on sqlite) with several versions of the toy bundle; replicas are fakes."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from components.contract import PARTS, Kind
from components.folder import ComponentFolder, write_manifest
from components.reference import ComponentRef, kind_of
from registry.errors import RegistryAwayError
from registry.registry import Registry
from registry.rollout.state import Plan, Rollout, read
from registry.settings import RegistrySettings
from services.messages import LiveModel, ReplicaReport, VersionReport
from services.metrics.rollout import RolloutMetrics
from services.rollout.controller import Controller
from services.rollout.desk import Desk
from services.rollout.last_good import LastGood
from services.rollout.settings import RolloutSettings
from services.rollout.stages import Reports, Wanted
from services.rollout.start import begin

# the last two are failures that pass
State = Literal["loaded", "preparing", "failed", "away", "no room"]


def variant(path: Path, folder: Path, source: str, space: str | None = None) -> Path:
    """A copy of a component that is another version; of another latent space where one is given."""
    shutil.copytree(folder, path)
    manifest = ComponentFolder.open(path).manifest
    contract = manifest.contract
    if space is not None:
        assert contract.latent_space is not None
        other = contract.latent_space.model_copy(update={"id": space})
        contract = contract.model_copy(update={"latent_space": other})
    origin = manifest.origin.model_copy(update={"source": source})
    write_manifest(path, manifest.model_copy(update={"origin": origin, "contract": contract}))
    return path


@pytest.fixture(scope="session")
def stocked(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, ComponentRef]]:
    """A home whose registry has the toy bundle's first versions in production, and further ones.

    Those are text_encoder/2, vae_decoder/2 and /3, which fit, and vae_decoder/4, which does not.
    """
    home, work = tmp_path_factory.mktemp("stocked"), tmp_path_factory.mktemp("variants")
    settings = RegistrySettings(home=home)
    begin(RolloutSettings(bundle="toy", folder=toy_bundle, registry=settings))
    registry = Registry.connect(settings)
    decoder, encoder = toy_bundle / "vae_decoder", toy_bundle / "text_encoder"
    folders = [
        variant(work / "2", decoder, "second"),
        variant(work / "3", decoder, "third"),
        variant(work / "4", decoder, "fourth", "another"),
        variant(work / "5", encoder, "second"),
    ]
    for folder in folders:
        kind = ComponentFolder.open(folder).manifest.contract.kind
        registry.publish(folder, f"toy.{kind}")
    found = [version.ref for kind in PARTS for version in registry.versions(f"toy.{kind}")]
    return home, {str(ref).removeprefix("toy."): ref for ref in found}


@pytest.fixture
def refs(stocked: tuple[Path, dict[str, ComponentRef]]) -> dict[str, ComponentRef]:
    """The versions, by kind and number, such as vae_decoder/2."""
    return stocked[1]


@pytest.fixture
def chosen(stocked: tuple[Path, dict[str, ComponentRef]], tmp_path: Path) -> RolloutSettings:
    """A registry of the test's own, with those versions."""
    home = tmp_path / "home"
    shutil.copytree(stocked[0], home, ignore=shutil.ignore_patterns("artifacts", "rollout"))
    return RolloutSettings(bundle="toy", folder=None, registry=RegistrySettings(home=home))


@pytest.fixture
def registry(chosen: RolloutSettings) -> Registry:
    return Registry.connect(chosen.registry)


class FlakyDesk(Desk):
    """A desk whose registry does not answer while `away`, or after so many more `answers`."""

    away = False
    answers: int | None = None

    def _answer(self, question: Callable[[Registry], Any]) -> Any:
        if self.answers is not None:
            self.away, self.answers = self.answers <= 0, self.answers - 1
        if self.away:
            raise RegistryAwayError("the registry in a test does not answer")
        return super()._answer(question)


@dataclass
class FakeStages:
    """Replicas by stage, each of which has every version at once unless `states` says otherwise."""

    replicas: dict[Kind, list[str]] = field(default_factory=lambda: {kind: [f"{kind}#1"] for kind in PARTS})
    states: dict[str, State] = field(default_factory=dict)
    wanted: list[Wanted] = field(default_factory=list)
    replaced: set[str] = field(default_factory=set)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    rest: set[Kind] = field(default_factory=set)

    async def resting(self) -> Collection[Kind]:
        return self.rest

    async def hold(self, wanted: Wanted, replaced: Collection[str]) -> Reports:
        self.wanted.append(wanted)
        for kind, names in self.replicas.items():
            self.replicas[kind] = [f"{name}'" if name in replaced else name for name in names]
        self.replaced |= set(replaced)
        self.asked.set()
        await asyncio.sleep(0)
        return {
            kind: tuple(ReplicaReport(name, "node", self._versions(name, pins)) for name in self.replicas[kind])
            for kind, pins in wanted.items()
        }

    def _versions(self, replica: str, pins: Collection[ComponentRef]) -> tuple[VersionReport, ...]:
        found = []
        for pin in pins:
            state = self.states.get(f"{replica} {pin}", self.states.get(str(pin), "loaded"))
            found.append(_version(pin, state))
        return tuple(found)


@dataclass
class FakeGate:
    """Lets everything pass but what `refuses` names, with the reason; `admitted` is known to have passed."""

    refuses: dict[str, str] = field(default_factory=dict)
    admitted: set[ComponentRef] = field(default_factory=set)
    raises: Exception | None = None
    tried: list[Plan] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def refusals(self, plan: Plan, live: Rollout) -> list[str]:
        self.tried.append(plan)
        await self.open.wait()
        if self.raises is not None:
            raise self.raises
        return [f"{ref}: {why}" for ref in plan.components if (why := self.refuses.get(str(ref))) and live]

    async def admits(self, ref: ComponentRef) -> bool:
        return ref in self.admitted


class CountedMetrics(RolloutMetrics):
    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[str] = []
        self.rolled_back = 0
        self.away_for = 0.0
        self.live: list[Mapping[Kind, ComponentRef]] = []

    def away(self, seconds: float) -> None:
        self.away_for = seconds

    def lives(self, pins: Mapping[Kind, ComponentRef]) -> None:
        self.live.append(pins)

    def rolled_out(self, outcome: str) -> None:
        self.outcomes.append(outcome)

    def canary_rolled_back(self) -> None:
        self.rolled_back += 1


@dataclass
class Bench:
    """A controller and all that it works with."""

    registry: Registry
    desk: FlakyDesk
    controller: Controller
    stages: FakeStages
    gate: FakeGate
    kept: list[LastGood]
    metrics: CountedMetrics

    async def poll(self) -> None:
        """Poll, and see through what comes of it."""
        await self.controller.poll()
        await self.followed()

    async def followed(self) -> None:
        while (task := self.controller._follower._following) is not None:
            await asyncio.wait([task])

    def live(self, kind: str) -> int:
        """The version of a kind that new requests are pinned to."""
        return self.controller.record.live.pins[Kind(kind)].version

    def alias(self, kind: str, alias: str = "production") -> int | None:
        """Where an alias points in the registry."""
        return self.registry.aliases(f"toy.{kind}").get(alias)

    def point(self, kind: str, version: int, alias: str = "production") -> None:
        """Move an alias by hand, past every check of ours."""
        with self.registry.asking() as client:
            client.set_registered_model_alias(f"toy.{kind}", alias, str(version))

    def tag(self, key: str, value: str) -> None:
        self.registry.set_bundle_tag("toy", key, value)

    def written(self) -> Rollout:
        """The record in the registry, which says besides that this controller follows the plans."""
        found = read(Rollout, self.registry.survey("toy").tags.get("latentworks.rollout"))
        assert found is not None
        assert found.server == self.controller.server
        return found.model_copy(update={"server": None})


Benches = Callable[..., Any]


@pytest.fixture
def bench(chosen: RolloutSettings, registry: Registry) -> Benches:
    """Make a bench, on whatever the registry or the disk says at that moment."""

    @asynccontextmanager
    async def made(start: LastGood | None = None, away: str | None = None, **more: Any) -> AsyncIterator[Bench]:
        begun = begin(chosen)[0] if start is None else start
        desk = FlakyDesk(chosen.registry, begun.contracts)
        desk.away = away is not None
        stages, gate = more.pop("stages", FakeStages()), more.pop("gate", FakeGate())
        kept: list[LastGood] = []
        metrics = CountedMetrics()
        keep = more.pop("keep", kept.append)
        controller = Controller(
            "toy", begun, away, desk, stages, gate, keep, metrics, more.pop("prepare_s", 600.0), **more
        )
        try:
            yield Bench(registry, desk, controller, stages, gate, kept, metrics)
        finally:
            controller.close()
            desk.close()

    return made


def ref_of(live: LiveModel, kind: Kind, version: int) -> ComponentRef:
    """Another version of a component, which nothing holds."""
    pin = live.pins[kind]
    return pin.model_copy(update={"version": version, "sha256": f"{version:064x}"})


def report(replica: str, *versions: tuple[ComponentRef, State]) -> ReplicaReport:
    return ReplicaReport(replica, "node", tuple(_version(pin, state) for pin, state in versions))


def _version(pin: ComponentRef, state: State) -> VersionReport:
    if state == "away":
        return VersionReport(pin, "failed", "the registry is away", passes_with="registry")
    if state == "no room":
        return VersionReport(pin, "failed", "all are in use", passes_with="room")
    return VersionReport(pin, state, "it is broken" if state == "failed" else None)


def stage_of(ref: ComponentRef) -> Kind:
    return kind_of(ref.name)
