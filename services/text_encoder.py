"""The deployments of the text encoder, and of a third one beside it: texts to conditioning."""

from collections.abc import Collection, Sequence
from functools import partial

from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from components.messages import EncodedText
from components.reference import ComponentRef
from pipeline.text_encoder import TextEncoder
from services.messages import ReplicaReport, Worked
from services.metrics.text_encoder import CacheMetrics
from services.stage_args import TextEncoderArgs
from services.stage_host import StageHost, StageSettings
from services.timelines.spans import Stopwatch


class TextEncoderSettings(StageSettings):
    """What a text encoder's replicas need to know."""

    args: TextEncoderArgs = TextEncoderArgs()


class TextEncoderDeployment:
    """Encodes the texts of one request, by the encoder of its kind."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, rollout: DeploymentHandle, settings: TextEncoderSettings, kind: Kind = Kind.TEXT_ENCODER
    ) -> None:
        settings = settings.own(kind)
        make = partial(TextEncoder, cache_bytes=settings.args.cache_bytes, kind=kind)
        self._host = StageHost(kind, make, TextEncoder.probe, settings)
        self._caches = CacheMetrics()
        await self._host.start(await rollout.record.remote())

    async def encode(
        self,
        pin: ComponentRef,
        texts: Sequence[str],
        chunks: int,
        weighting: str,
        clip_skip: int,
        phrases: Sequence[str] = (),
    ) -> Worked[EncodedText]:
        """Encode checked texts by a pinned version, each in at most so many parts of its token limit, and phrases."""

        def work(stage: TextEncoder) -> Worked[EncodedText]:
            watch = Stopwatch()
            encoded = stage.encode(texts, chunks, weighting, clip_skip=clip_skip, phrases=phrases)
            span = self._host.span("encode", watch, pin, texts=len(texts) + len(phrases), cached=encoded.cached)
            self._caches.used(stage, str(pin), stage.cache_figures)
            return Worked(encoded, span)

        return await self._host.run(pin, work)

    async def knock(self) -> None:
        """Answer: whoever knocks wants a replica to run."""

    async def hold(self, wanted: Sequence[ComponentRef], replaced: Collection[str]) -> ReplicaReport:
        """Keep versions open, the most important first, and say how far that is."""
        return self._host.hold(wanted, replaced)

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work."""
        await self._host.check_health()
