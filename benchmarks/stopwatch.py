"""Where the time of one picture goes, by stage."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """Milliseconds of one picture; `step_ms` has an entry for each run of the denoiser, `denoiser_ms` is its walk."""

    text_encoder_ms: float
    step_ms: tuple[float, ...]
    denoiser_ms: float
    vae_decoder_ms: float
    whole_ms: float


class Stopwatch:
    """Collects the spans of one picture at a time, by name; one thread uses it."""

    def __init__(self) -> None:
        self._spans_ms: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """A block whose duration counts under `name`; one that raises does not count."""
        started = time.perf_counter()
        yield
        self._spans_ms[name].append((time.perf_counter() - started) * 1000)

    def take(self) -> StageTimes:
        """The spans since the last call; every stage must have run once, the denoiser with any number of steps."""
        spans, self._spans_ms = self._spans_ms, defaultdict(list)
        [text_encoder], [denoiser] = spans["text_encoder"], spans["denoiser"]
        [vae_decoder], [whole] = spans["vae_decoder"], spans["whole"]
        return StageTimes(
            text_encoder_ms=text_encoder,
            step_ms=tuple(spans["step"]),
            denoiser_ms=denoiser,
            vae_decoder_ms=vae_decoder,
            whole_ms=whole,
        )
