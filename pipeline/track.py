"""One picture on its way from noise to latents."""

from typing import TypeAlias

import numpy as np

from components.messages import Arrays, FloatArray
from diffusion.guidance import guide
from diffusion.prediction import Prediction
from diffusion.samplers import Query, Sampler

Signature: TypeAlias = tuple[tuple[int, ...], tuple[tuple[str, tuple[int, ...]], ...]]


class Track:
    """A sampler with its conditioning and guidance: what to ask the network, and what to make of the answer.

    `Denoiser.begin` makes it and `Denoiser.advance` moves it; one thread at a time. `rows` is the number of rows that
    it takes in a run: the unconditional and the conditional one, in this order, or the conditional one alone at
    guidance 1. Tracks of one `signature`, latent shape and conditioning shapes, can share a run. `step` counts the
    evaluations that were answered, which for the samplers of one evaluation a step is the number of steps walked.
    """

    def __init__(
        self, sampler: Sampler, steps: int, prediction: Prediction, conditioning: Arrays, guidance: float
    ) -> None:
        """Start the sampler; `conditioning` arrays are [rows, tokens, width]."""
        self.conditioning = conditioning
        self.rows = next(iter(conditioning.values())).shape[0]
        self.steps = steps
        self.step = 0
        self._sampler = sampler
        self._prediction = prediction
        self._guidance = guidance
        self._latents: FloatArray | None = None
        self._query: Query | None = next(sampler)
        self.signature: Signature = (
            self._query.latents.shape[1:],
            tuple(sorted((name, array.shape[1:]) for name, array in conditioning.items())),
        )

    @property
    def done(self) -> bool:
        """Whether the walk is over and `latents` are there."""
        return self._latents is not None

    @property
    def latents(self) -> FloatArray:
        """The clean latents [1, channels, height, width] in the denoiser's scale, of a track that is done."""
        assert self._latents is not None, "the walk is not over"
        return self._latents

    @property
    def query(self) -> Query:
        """What the sampler waits for, of a track that is not done."""
        assert self._query is not None, "the walk is over"
        return self._query

    def network_input(self) -> FloatArray:
        """The latents as the network expects them, [rows, channels, height, width]."""
        scaled = self._prediction.network_input(self.query.latents, self.query.sigma)
        return scaled if self.rows == 1 else np.concatenate([scaled] * self.rows)

    def answer(self, prediction: FloatArray) -> None:
        """Hand the sampler what the network predicted for this track's rows."""
        output = prediction if self.rows == 1 else guide(prediction[:1], prediction[1:], self._guidance)
        query = self.query
        try:
            self._query = self._sampler.send(self._prediction.denoised(output, query.latents, query.sigma))
        except StopIteration as finished:
            self._query, self._latents = None, finished.value
        self.step += 1
