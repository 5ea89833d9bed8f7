"""What was measured of each stage, so that a simulation can take as long."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.errors import BenchmarkError
from benchmarks.plan.demand import Asked
from services.denoiser import GUIDED_ROWS

# of a picture that stands for others
USUAL_STEPS = 20

Seconds = Annotated[float, Field(ge=0, le=3600)]


class SizeTimes(BaseModel):
    """Pictures of one size: seconds of each stage's work on one, nothing else being on.

    `run_s` is one run of the denoiser by its rows, with what lies between it and the next. `ingress_s` and `graph_s`
    are what these two, the way between deployments and the client add.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    latent_pixels: int = Field(ge=1)
    ingress_s: Seconds
    graph_s: Seconds
    text_encoder_s: Seconds
    vae_decoder_s: Seconds
    run_s: Mapping[int, Seconds] = Field(min_length=1)

    def run(self, rows: int) -> float:
        """One run of so many rows: between two that were measured on their line, beyond them in proportion."""
        known = sorted(self.run_s)
        if rows > known[-1]:
            return self.run_s[known[-1]] * rows / known[-1]
        # a run of less than was measured is no faster
        return float(np.interp(rows, known, [self.run_s[each] for each in known]))

    @property
    def stages_s(self) -> float:
        """A picture's work but for the denoiser's."""
        return self.ingress_s + self.graph_s + self.text_encoder_s + self.vae_decoder_s

    @property
    def work(self) -> tuple[float, float]:
        """Seconds of a picture of `USUAL_STEPS` steps alone, and of the work for one where its runs are full."""
        most = max(self.run_s)
        alone = self.stages_s + USUAL_STEPS * self.run(GUIDED_ROWS)
        return alone, self.stages_s + USUAL_STEPS * self.run(most) * GUIDED_ROWS / most

    def mean(self, other: "SizeTimes") -> "SizeTimes":
        """What lies half-way between two measurements."""
        names = ("ingress_s", "graph_s", "text_encoder_s", "vae_decoder_s")
        means = {name: (getattr(self, name) + getattr(other, name)) / 2 for name in names}
        runs = {rows: (seconds + other.run_s[rows]) / 2 for rows, seconds in self.run_s.items()}
        return self.model_copy(update={**means, "run_s": runs})


class RunLimits(BaseModel):
    """What a replica of the denoiser lets share a run and wait, as `diffusion.batcher.Limits` has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(ge=2)
    pixels: int = Field(ge=1)
    queued: int = Field(ge=1)


class StageTimes(BaseModel):
    """Times by size of picture, and the limits of the denoiser that they were measured with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    made: str
    command: str
    cpu: str
    bundle: str
    limits: RunLimits
    sizes: Mapping[str, SizeTimes] = Field(min_length=1)

    def of(self, asked: Asked) -> SizeTimes:
        """The times of pictures of that size.

        Raises:
            BenchmarkError: nobody has measured it.
        """
        found = self.sizes.get(str(asked.size))
        if found is None:
            raise BenchmarkError(f"--mix: {asked.size} was not measured; the times know {', '.join(self.sizes)}")
        return found

    def drift(self, other: "StageTimes") -> float:
        """How far a picture's work is from that of another measurement: the larger over the smaller, 1 or more.

        The work is that of a picture alone, and its share of full runs; the worse of both, of the worst size.
        """
        ratios = [
            mine / theirs
            for size, times in self.sizes.items()
            for mine, theirs in zip(times.work, other.sizes[size].work, strict=True)
        ]
        return max(max(ratio, 1 / ratio) for ratio in ratios)

    def mean(self, other: "StageTimes") -> "StageTimes":
        """What lies half-way between two measurements of the same sizes."""
        return self.model_copy(
            update={"sizes": {size: times.mean(other.sizes[size]) for size, times in self.sizes.items()}}
        )

    def alone_s(self, asked: Asked) -> float:
        """From the request to the answer where nothing else is on."""
        times = self.of(asked)
        return times.stages_s + asked.steps * times.run(GUIDED_ROWS)


def read_times(path: Path) -> StageTimes:
    """Times that `python -m benchmarks plan-times` has written.

    Raises:
        BenchmarkError: the file cannot be read, or is something else.
    """
    try:
        return StageTimes.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchmarkError(f"--times {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BenchmarkError(f"--times {path}: {where}: {first['msg']}") from None
