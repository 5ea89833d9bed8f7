"""The baseline: the bundle's ONNX sessions run in a loop, with none of the work around them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.stopwatch import StageTimes, Stopwatch
from benchmarks.task import Task
from components.contract import Kind
from components.errors import ComponentError
from runtime.feeds import Feeds, zero_feeds
from runtime.session import Session

_KINDS = (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER)


class BareSessions:
    """Runs what one picture needs: the text encoder on its texts, the denoiser for each step, the decoder once.

    No tokenizer, sampler, guidance or latent scaling. What runs is made once, of the shapes of a real picture; which
    numbers are in it changes nothing in the time. The sessions are the runtime's, with its options; its check of what
    it is fed takes some six microseconds a run.
    """

    def __init__(self, task: Task) -> None:
        """Open the sessions.

        Raises:
            ComponentError: a component lacks what a picture needs.
            RuntimeFault: as `Session.open`.
        """
        self._sessions = {kind: Session.open(task.folders[kind], task.sessions[kind]) for kind in _KINDS}
        self._rows = len(task.request.texts)
        self._latents = _latents(task)
        self._timesteps = _timesteps(task, self._rows)
        encoder = task.contract(Kind.TEXT_ENCODER)
        self._text = zero_feeds(encoder)
        self._conditioning = tuple(array.name for array in encoder.conditioning)
        self._stopwatch = Stopwatch()

    def draw(self) -> StageTimes:
        """Run the sessions for one picture.

        Raises:
            RuntimeFault: a session could not run.
        """
        span = self._stopwatch.span
        with span("whole"):
            with span("text_encoder"):
                texts = [self._encode() for _ in range(self._rows)]
                conditioning = {name: np.concatenate([text[name] for text in texts]) for name in self._conditioning}
            with span("denoiser"):
                for feeds in self._denoiser_feeds(conditioning):
                    with span("step"):
                        self._sessions[Kind.DENOISER].run(feeds)
            with span("vae_decoder"):
                self._sessions[Kind.VAE_DECODER].run({"latents": self._latents})
        return self._stopwatch.take()

    def _encode(self) -> Feeds:
        return self._sessions[Kind.TEXT_ENCODER].run(self._text, outputs=self._conditioning)

    def _denoiser_feeds(self, conditioning: Mapping[str, npt.NDArray[Any]]) -> Iterator[Feeds]:
        latents = np.repeat(self._latents, self._rows, axis=0)
        for timestep in self._timesteps:
            yield {**conditioning, "latents": latents, "timestep": timestep}


def _latents(task: Task) -> npt.NDArray[np.float32]:
    space = task.contract(Kind.DENOISER).latent_space
    if space is None:
        raise ComponentError(f"{Kind.DENOISER}: its contract has no latent space")
    request = task.request
    shape = (1, space.channels, request.height // space.downscale, request.width // space.downscale)
    return np.random.default_rng(request.seed).standard_normal(shape, np.float32)


def _timesteps(task: Task, rows: int) -> npt.NDArray[np.float32]:
    """Timesteps [steps, rows], from the noisiest down."""
    schedule = task.contract(Kind.DENOISER).noise_schedule
    if schedule is None:
        raise ComponentError(f"{Kind.DENOISER}: its contract has no noise schedule")
    walk = np.linspace(schedule.num_train_timesteps - 1, 0, task.request.steps, dtype=np.float32)
    return np.repeat(walk[:, np.newaxis], rows, axis=1)
