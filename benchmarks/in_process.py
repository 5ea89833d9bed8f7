"""`TextToImage` with a stopwatch at each of its stages."""

from collections.abc import Sequence

from PIL import Image

from benchmarks.stopwatch import StageTimes, Stopwatch
from benchmarks.task import Task, asked_fields
from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import DenoiseJob, EncodedText, FloatArray, Pixels, Tiling
from pipeline.controlnet import ControlNet
from pipeline.denoiser import Denoiser
from pipeline.request import RequestRules
from pipeline.text_encoder import TextEncoder
from pipeline.text_to_image import TextToImage
from pipeline.track import Track
from pipeline.vae_decoder import VaeDecoder
from runtime.interrupt import Interrupt
from runtime.settings import SessionSettings


class InProcess:
    """The whole chain as a user of the library has it, with the sessions of the task."""

    def __init__(self, task: Task) -> None:
        """Open the stages.

        Raises:
            ComponentError: a stage cannot drive its component.
            RuntimeFault: as `Session.open`.
        """
        self._asked = asked_fields(task.request)
        self._stopwatch = Stopwatch()
        folders, sessions = task.folders, task.sessions
        self._chain = TextToImage(
            _TimedTextEncoder(folders[Kind.TEXT_ENCODER], sessions[Kind.TEXT_ENCODER], self._stopwatch),
            _TimedDenoiser(folders[Kind.DENOISER], sessions[Kind.DENOISER], self._stopwatch),
            _TimedVaeDecoder(folders[Kind.VAE_DECODER], sessions[Kind.VAE_DECODER], self._stopwatch),
            RequestRules(),
        )

    def draw(self) -> tuple[StageTimes, Image.Image]:
        """Draw the task's picture.

        Raises:
            RuntimeFault: a session could not run.
        """
        with self._stopwatch.span("whole"):
            image = self._chain.generate(**self._asked)
        return self._stopwatch.take(), image


class _TimedTextEncoder(TextEncoder):
    def __init__(self, folder: ComponentFolder, settings: SessionSettings, stopwatch: Stopwatch) -> None:
        # the same text comes again and again here, and is to be encoded each time
        super().__init__(folder, settings, cache_bytes=0)
        self._stopwatch = stopwatch

    def encode(
        self,
        texts: Sequence[str],
        max_chunks: int = 1,
        weighting: str = "none",
        *,
        clip_skip: int = 1,
        phrases: Sequence[str] = (),
    ) -> EncodedText:
        with self._stopwatch.span("text_encoder"):
            return super().encode(texts, max_chunks, weighting, clip_skip=clip_skip, phrases=phrases)


class _TimedDenoiser(Denoiser):
    def __init__(self, folder: ComponentFolder, settings: SessionSettings, stopwatch: Stopwatch) -> None:
        super().__init__(folder, settings)
        self._stopwatch = stopwatch

    def advance(self, tracks: Sequence[Track], interrupt: Interrupt | None = None) -> None:
        with self._stopwatch.span("step"):
            super().advance(tracks, interrupt)

    def denoise(self, job: DenoiseJob, controlnets: Sequence[ControlNet] = ()) -> FloatArray:
        with self._stopwatch.span("denoiser"):
            return super().denoise(job, controlnets)


class _TimedVaeDecoder(VaeDecoder):
    def __init__(self, folder: ComponentFolder, settings: SessionSettings, stopwatch: Stopwatch) -> None:
        super().__init__(folder, settings)
        self._stopwatch = stopwatch

    def decode(self, latents: FloatArray, tiling: Tiling | None = None) -> Pixels:
        with self._stopwatch.span("vae_decoder"):
            return super().decode(latents, tiling)
