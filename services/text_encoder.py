"""The text encoder's deployment: texts to conditioning."""

from collections.abc import Collection, Sequence

from ray.serve.handle import DeploymentHandle

from components.contract import Kind
from components.messages import EncodedText
from components.reference import ComponentRef
from pipeline.text_encoder import TextEncoder
from services.messages import ReplicaReport
from services.stage_host import StageHost, StageSettings


class TextEncoderDeployment:
    """Encodes the texts of one request."""

    async def __init__(self, rollout: DeploymentHandle, settings: StageSettings) -> None:  # type: ignore[misc]  # Serve awaits it
        self._host = StageHost(Kind.TEXT_ENCODER, TextEncoder, TextEncoder.probe, settings)
        await self._host.start(await rollout.record.remote())

    async def encode(self, pin: ComponentRef, texts: Sequence[str], chunks: int) -> EncodedText:
        """Encode checked texts by a pinned version, each in at most so many parts of its token limit."""
        return await self._host.run(pin, lambda stage: stage.encode(texts, chunks))

    async def hold(self, wanted: Sequence[ComponentRef], replaced: Collection[str]) -> ReplicaReport:
        """Keep versions open, the most important first, and say how far that is."""
        return self._host.hold(wanted, replaced)

    async def check_health(self) -> None:
        """Tell Serve whether this replica can still work."""
        await self._host.check_health()
