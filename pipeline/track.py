"""One picture on its way from noise to latents."""

from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from typing import TypeAlias, cast

import numpy as np

from components.contract import BOX_INPUTS, Contract
from components.messages import Arrays, FloatArray, Snapshot, Walk
from diffusion.guidance import ALONE, Guidance, Row, SkipGuidance
from diffusion.prediction import Prediction
from diffusion.samplers import Query, Sampler
from diffusion.trajectory import Step
from pipeline.held import Held
from pipeline.joining import joined

Signature: TypeAlias = tuple[tuple[int, ...], tuple[tuple[str, tuple[int, ...]], ...]]


class Track:
    """A sampler with its rows and guidance: what to ask the network, and what to make of the answer.

    `Denoiser.begin` makes it and `Denoiser.advance` moves it; one thread at a time. Tracks of one `signature`, the
    shapes of latents and of what a row must be conditioned on, can share a run. `evaluation` counts the evaluations
    that were answered, of `evaluations` altogether.
    """

    def __init__(
        self,
        sampler: Sampler,
        steps: Sequence[Step],
        prediction: Prediction,
        rows: Mapping[str, Arrays],
        guidance: Guidance,
        wide_answers: bool = False,
        optional: Collection[str] = (),
        held: Held | None = None,
        boxes_end: float | None = None,
    ) -> None:
        """Start the sampler, which walks `steps`; `wide_answers` as its row of the table says.

        `rows` holds what conditions each row that guidance may weigh, arrays [1, ...] by the network's inputs, of
        which those named `optional` may be left out. `held` is what control pictures add. Rows have their boxes for
        the first share `boxes_end` of the evaluations.
        """
        self._sampler = sampler
        # a step of two queries is one step: guidance must not change within it
        self._step_of = [index for index, step in enumerate(steps) for _ in range(1 if step.second is None else 2)]
        self._steps = len(steps)
        self._prediction = prediction
        self._guidance = guidance
        self._rows_at = [guidance.rows(step, self._steps) for step in self._step_of]
        self._arrays = {
            names: joined([rows[name] for name in names], [1] * len(names)) for names in {ALONE, *self._rows_at}
        }
        self._without_boxes = {
            names: {name: array for name, array in arrays.items() if name not in BOX_INPUTS}
            for names, arrays in self._arrays.items()
        }
        # evaluations, not steps, and rounded down, as in diffusers
        self._with_boxes = 0 if boxes_end is None else int(boxes_end * len(self._step_of))
        # how many rows the evaluations from each one on take, and none at the end
        self._rows_from = [*accumulate(map(len, reversed(self._rows_at)), initial=0)][::-1]
        self._wide_answers = wide_answers
        self.held = Held() if held is None else held
        self._agreed = False
        self._evaluation = 0
        self._estimate: FloatArray | None = None
        self._latents: FloatArray | None = None
        self._query: Query | None = next(sampler)
        self.signature: Signature = (
            self._query.latents.shape[1:],
            tuple(sorted((n, a.shape[1:]) for n, a in rows[Row.POSITIVE].items() if n not in optional)),
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

    @property
    def evaluation(self) -> int:
        """How many evaluations were answered."""
        return self._evaluation

    @property
    def evaluations(self) -> int:
        """How many evaluations the walk takes."""
        return len(self._step_of)

    @property
    def step(self) -> int:
        """How many steps are behind it, of `steps`; a step is as long under way as it has evaluations to come."""
        return self._steps if self.done else self._step_of[self.evaluation]

    @property
    def steps(self) -> int:
        """How many steps the walk has."""
        return self._steps

    @property
    def rows(self) -> int:
        """How many rows the next run has of it: those that guidance weighs, or the conditional one alone."""
        return len(self._row_names)

    @property
    def rows_to_come(self) -> int:
        """The rows of all runs still to come, as far as can be known: adaptive guidance may save some."""
        return self.evaluations - self._evaluation if self._agreed else self._rows_from[self._evaluation]

    @property
    def conditioning(self) -> Arrays:
        """What conditions the next run, arrays [rows, ...]."""
        arrays = self._arrays if self._evaluation < self._with_boxes else self._without_boxes
        return arrays[self._row_names]

    @property
    def estimate(self) -> FloatArray | None:
        """The newest estimate of the clean latents, what the sampler was sent last; None before there is one."""
        return self._estimate

    @property
    def agreed(self) -> bool:
        """Whether adaptive guidance has dropped the unconditional row."""
        return self._agreed

    def network_input(self) -> FloatArray:
        """The latents as the network expects them, [rows, channels, height, width]."""
        scaled = self._prediction.network_input(self.query.latents, self.query.sigma)
        return scaled if self.rows == 1 else np.concatenate([scaled] * self.rows)

    def answer(self, prediction: FloatArray) -> None:
        """Hand the sampler what the network predicted for this track's rows."""
        output = prediction
        if self.rows > 1:
            by_row = {name: prediction[row : row + 1] for row, name in enumerate(self._row_names)}
            output = self._guidance.combine(by_row)
            self._agreed = self._guidance.agrees(by_row)
        query = self.query
        latents = cast(FloatArray, query.latents.astype(np.float64)) if self._wide_answers else query.latents
        self._send(self._prediction.denoised(output, latents, query.sigma))

    def resume(self, snapshot: Snapshot) -> None:
        """Bring a track that has just begun to where a snapshot of the same job was taken; nothing runs."""
        assert self._evaluation == 0, "the track has moved already"
        assert len(snapshot.estimates) <= self.evaluations, "the snapshot is of a longer walk"
        for estimate in snapshot.estimates:
            self._send(estimate)
        self._agreed = snapshot.agreed

    @property
    def _row_names(self) -> tuple[Row, ...]:
        return ALONE if self._agreed or self.done else self._rows_at[self.evaluation]

    def _send(self, estimate: FloatArray) -> None:
        try:
            self._query = self._sampler.send(estimate)
        except StopIteration as finished:
            self._query, self._latents = None, finished.value
        self._estimate = estimate
        self._evaluation += 1


def guidance_of(walk: Walk, contract: Contract) -> Guidance:
    """A walk's guidance in the terms of the mathematics; none where the denoiser of the contract has it within.

    Raises:
        DiffusionError: a part of it is outside its limits.
    """
    return Guidance(
        scale=1.0 if contract.embeds_guidance else walk.guidance,
        rescale=walk.guidance_rescale,
        start=walk.guidance_start,
        end=walk.guidance_end,
        agreement=walk.adaptive_guidance,
        image_scale=walk.image_guidance,
        skip=_skip_guidance_of(walk),
    )


def _skip_guidance_of(walk: Walk) -> SkipGuidance | None:
    if walk.skip_layer_guidance is None:
        return None
    return SkipGuidance(
        scale=walk.skip_layer_guidance, start=walk.skip_layer_guidance_start, end=walk.skip_layer_guidance_end
    )
