"""Stage times by the timelines of real requests, one after the other, on a server that does nothing else."""

import random
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.errors import BenchmarkError
from benchmarks.machine import describe_machine
from benchmarks.plan.demand import Size
from benchmarks.plan.times import RunLimits, SizeTimes, StageTimes
from components.contract import Kind
from pipeline.bundle import open_bundle
from services.client.answers import Timeline, TimelineSpan
from services.client.blocking import Client
from services.client.errors import ClientError
from services.denoiser import GUIDED_ROWS, DenoiserSettings
from services.settings import GraphArgs

# one replica and one thread of each stage: what a simulated core stands for
ONE_THREAD = tuple(f"{kind}.threads=1" for kind in (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER))
_STEPS = 12
_ROUNDS = 5
# between requests, as there are under a load: what comes right after another finds everything awake, and is faster
_PAUSE_S = (0.1, 0.9)


@dataclass(slots=True)
class _Seen:
    """Seconds of what was drawn, of one size."""

    ingress: list[float] = field(default_factory=list)
    graph: list[float] = field(default_factory=list)
    text_encoder: list[float] = field(default_factory=list)
    vae_decoder: list[float] = field(default_factory=list)
    runs: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def one(self, whole_s: float, timeline: Timeline) -> None:
        """A request for one picture."""
        [graph], [encode], [walk], [decode] = (_named(timeline, name) for name in ("graph", "encode", "walk", "decode"))
        self.ingress.append(max(0.0, whole_s - graph.seconds))
        self.graph.append(max(0.0, graph.seconds - encode.seconds - walk.seconds - decode.seconds))
        self.text_encoder.append(encode.seconds)
        self.vae_decoder.append(decode.seconds)

    def ran(self, timeline: Timeline) -> None:
        """The runs of a request's first picture, each until the next begins: what lies between belongs to it."""
        [walk] = _named(timeline, "walk")[:1]
        runs = [span for span in timeline.spans if span.name == "run" and span.parent == walk.id]
        for run, after in pairwise(runs):
            self.runs[int(run.facts["rows"])].append(after.start_s - run.start_s)

    def times(self, latent_pixels: int) -> SizeTimes:
        """The medians."""
        return SizeTimes(
            latent_pixels=latent_pixels,
            ingress_s=median(self.ingress),
            graph_s=median(self.graph),
            text_encoder_s=median(self.text_encoder),
            vae_decoder_s=median(self.vae_decoder),
            run_s={rows: median(seconds) for rows, seconds in sorted(self.runs.items())},
        )


class Calibration:
    """A client that draws to see what it takes; no prompt comes twice, as a text encoder keeps what it has encoded."""

    def __init__(self, client: Client, bundle: Path) -> None:
        """Ask `client`'s server, which serves `bundle`; the limits of its denoiser are this environment's settings."""
        self._client = client
        self._args = GraphArgs(bundle=bundle.name)
        self._contract = open_bundle(bundle, (Kind.DENOISER,))[Kind.DENOISER].manifest.contract
        # another client's pictures must not be in the text encoder's cache
        self._name = secrets.token_hex(4)
        self._drawn = 0
        self._rng = random.Random(self._name)

    def times(self, sizes: Iterable[Size], say: Callable[[str], None], command: str = "") -> StageTimes:
        """What pictures of these sizes take, runs of as many rows as a replica lets share one.

        Raises:
            BenchmarkError: the server did not draw.
        """
        space = self._contract.latent_space
        assert space is not None, "a denoiser's contract has it"
        args = self._args
        settings = DenoiserSettings(registry=args.registry, args=args.denoiser, rules=args.rules)
        limits = settings.limits(self._contract)
        found: dict[str, SizeTimes] = {}
        for size in sizes:
            say(f"what pictures of {size} take")
            pixels = size.width * size.height // space.downscale**2
            # as many as fit into a run, though not more than a request may ask for
            most = max(1, min(limits.rows, limits.pixels // pixels) // GUIDED_ROWS)
            pictures = range(1, min(most, args.rules.max_images) + 1)
            found[str(size)] = self._size(size, pictures).times(pixels)
        return StageTimes(
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            command=command,
            cpu=describe_machine().cpu,
            bundle=args.bundle,
            limits=RunLimits(rows=limits.rows, pixels=limits.pixels, queued=limits.queued),
            sizes=found,
        )

    def _size(self, size: Size, pictures: Sequence[int]) -> _Seen:
        seen = _Seen()
        for count in pictures:
            self._draw(size, count)
        # in turn, so that a minute in which the machine is busy is not one number of pictures' alone
        for _ in range(_ROUNDS):
            for count in pictures:
                whole_s, timeline = self._draw(size, count)
                seen.ran(timeline)
                if count == 1:
                    seen.one(whole_s, timeline)
        return seen

    def _draw(self, size: Size, count: int) -> tuple[float, Timeline]:
        self._drawn += 1
        time.sleep(self._rng.uniform(*_PAUSE_S))
        began = time.perf_counter()
        try:
            drawing = self._client.generate(f"{self._name} {self._drawn}", n=count, steps=_STEPS, size=str(size))
            whole_s = time.perf_counter() - began
            assert drawing.request_id is not None, "our server names it"
            return whole_s, self._client.timeline(drawing.request_id)
        except ClientError as error:
            raise BenchmarkError(f"pictures of {size} cannot be drawn: {error}") from None


def _named(timeline: Timeline, name: str) -> list[TimelineSpan]:
    return [span for span in timeline.spans if span.name == name]
