"""The graph as events: ingress, graph, text encoder, denoiser, VAE decoder, and back."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import simpy

from benchmarks.plan.autoscaling import Autoscaler
from benchmarks.plan.cores import Cores, OneAtATime
from benchmarks.plan.demand import Arrival
from benchmarks.plan.stations import DenoiserReplica, Deployment, Steps, Walk, Worker
from benchmarks.plan.times import StageTimes
from diffusion.batcher import Limits, Ticket
from diffusion.errors import OverloadedError
from services.denoiser import GUIDED_ROWS
from services.settings import IngressArgs
from services.stage_args import DenoiserArgs, TextEncoderArgs, VaeDecoderArgs

INGRESS, GRAPH, TEXT_ENCODER, DENOISER, VAE_DECODER = DEPLOYMENTS = (
    "ingress",
    "graph",
    "text_encoder",
    "denoiser",
    "vae_decoder",
)
_MAX_IMAGES = IngressArgs().max_images
# how many calls a replica takes at a time; the ingress's and the graph's own work is that of one event loop
_AT_ONCE = {
    INGRESS: 1,
    GRAPH: 1,
    TEXT_ENCODER: TextEncoderArgs().max_ongoing_requests,
    DENOISER: DenoiserArgs().max_ongoing_requests,
    VAE_DECODER: VaeDecoderArgs().max_ongoing_requests,
}


@dataclass(frozen=True, slots=True)
class Scaled:
    """A deployment that scales: Serve's `autoscaling_config`, and the seconds that a new replica takes to be there."""

    options: Mapping[str, Any]
    start_s: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What serves: how many replicas of each deployment, which of them scale, and where they run.

    Each replica has a core of its own, or all share `cores` of one machine.
    """

    replicas: Mapping[str, int]
    scaled: Mapping[str, Scaled] = field(default_factory=dict)
    cores: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One picture: when it was asked for, and seconds until it was there."""

    at_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Station:
    """One deployment in all of a simulation.

    `paid_s` are seconds of all replicas together, `worked_s` those in which they had something to do; a call stayed
    `stayed_s` seconds in the mean. `history` has the seconds at which the number of replicas changed, and the number.
    """

    paid_s: float
    worked_s: float
    stayed_s: float
    history: tuple[tuple[float, int], ...]

    @property
    def utilisation(self) -> float:
        """The share of its time in which a replica worked."""
        return self.worked_s / self.paid_s if self.paid_s else 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a load: every picture, the moments at which one was refused, and the deployments."""

    answers: tuple[Answer, ...]
    refused: tuple[float, ...]
    ended_s: float
    stations: Mapping[str, Station]

    @property
    def refused_share(self) -> float:
        """Of all requests."""
        return len(self.refused) / (len(self.answers) + len(self.refused))


class Simulation:
    """Requests for one picture each, on a scene; `seed` says which replicas are asked."""

    def __init__(self, times: StageTimes, scene: Scene, seed: int = 0) -> None:
        self._env = simpy.Environment()
        self._times, self._scene = times, scene
        self._limits = Limits(**times.limits.model_dump())
        self._shared = None if scene.cores is None else Cores(self._env, scene.cores)
        rng = random.Random(seed)
        self._deployments: dict[str, Deployment[Any]] = {
            name: Deployment(self._env, name, partial(self._replica, name), scene.replicas[name], rng)
            for name in DEPLOYMENTS
        }
        for name, scaled in scene.scaled.items():
            Autoscaler(self._env, self._deployments[name], scaled.options, scaled.start_s, partial(self._ongoing, name))
        self._answers: list[Answer] = []
        self._refused: list[float] = []
        self._admitted = 0

    def run(self, load: Iterable[Arrival]) -> Outcome:
        """Let the load come, until its last picture is there."""
        done = self._env.process(self._come(load))
        self._env.run(until=done)
        stations = {
            name: Station(
                each.paid_s, each.worked_s, each.stayed_s / each.calls if each.calls else 0.0, tuple(each.history)
            )
            for name, each in self._deployments.items()
        }
        return Outcome(tuple(self._answers), tuple(self._refused), self._env.now, stations)

    def _replica(self, name: str) -> Worker | DenoiserReplica:
        cores = self._cores(name)
        if name == DENOISER:
            return DenoiserReplica(self._env, _AT_ONCE[name], cores, self._limits)
        return Worker(self._env, _AT_ONCE[name], cores)

    def _cores(self, name: str) -> Cores | OneAtATime:
        if self._shared is not None:
            return self._shared
        # a denoiser's runs follow one another, though many calls share them
        alone = _AT_ONCE[name] == 1 or name == DENOISER
        return OneAtATime(self._env) if alone else Cores(self._env, 1)

    def _ongoing(self, name: str) -> int:
        # a request is with these two from its first to its last moment, whoever works on it
        return self._admitted if name in (INGRESS, GRAPH) else self._deployments[name].ongoing

    def _come(self, load: Iterable[Arrival]) -> Steps:
        drawn = []
        for number, arrival in enumerate(load):
            yield self._env.timeout(arrival.at_s - self._env.now)
            drawn.append(self._env.process(self._draw(f"{number}", arrival)))
        yield self._env.all_of(drawn)

    def _draw(self, id_: str, arrival: Arrival) -> Steps:
        if self._admitted >= _MAX_IMAGES * self._deployments[INGRESS].count:
            self._refused.append(arrival.at_s)
            return
        self._admitted += 1
        try:
            yield from self._chain(id_, arrival)
            self._answers.append(Answer(arrival.at_s, self._env.now - arrival.at_s))
        except OverloadedError:
            self._refused.append(arrival.at_s)
        finally:
            self._admitted -= 1

    def _chain(self, id_: str, arrival: Arrival) -> Steps:
        times = self._times.of(arrival.asked)
        ticket = Ticket(
            id=id_,
            tenant="",
            signature=str(arrival.asked.size),
            pixels=times.latent_pixels,
            rows=GUIDED_ROWS,
            evaluations=arrival.asked.steps,
        )
        way: tuple[tuple[str, Any], ...] = (
            (INGRESS, times.ingress_s / 2),
            (GRAPH, times.graph_s / 2),
            (TEXT_ENCODER, times.text_encoder_s),
            (DENOISER, Walk(ticket, times)),
            (VAE_DECODER, times.vae_decoder_s),
            (GRAPH, times.graph_s / 2),
            (INGRESS, times.ingress_s / 2),
        )
        for name, work in way:
            yield from self._deployments[name].call(work)
