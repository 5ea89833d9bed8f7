"""Driving one sampler in the calling thread; the step batcher drives many."""

from collections.abc import Callable
from contextlib import closing
from itertools import count
from typing import TypeAlias

from diffusion.arrays import Array
from diffusion.samplers import Query, Sampler

Denoise: TypeAlias = Callable[[Query], Array]
OnEvaluation: TypeAlias = Callable[[int, Query, Array], None]


def run(sampler: Sampler, denoise: Denoise, on_evaluation: OnEvaluation | None = None) -> Array:
    """Answer every query of `sampler` with `denoise` and return its final latents.

    `denoise` gives the estimate of x0 in the shape of the query's latents. `on_evaluation` sees the number of the
    evaluation, from 0, the query and the answer; what it raises ends the walk, and the sampler is closed.
    """
    with closing(sampler):
        denoised: Array | None = None
        for evaluation in count():
            try:
                query = next(sampler) if denoised is None else sampler.send(denoised)
            except StopIteration as finished:
                final: Array = finished.value
                return final
            denoised = denoise(query)
            if on_evaluation is not None:
                on_evaluation(evaluation, query, denoised)
    raise AssertionError("count() never ends")
