"""What one run of the benchmark measures, and how much of it."""

import shlex
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.effort import Effort, LoadEffort


class Part(StrEnum):
    """One of the measurements."""

    PATHS = "paths"
    OUTSIDE = "outside"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, of which bundle; names of folders, not their paths, so that it can be written down."""

    bundle: str
    steps: int
    parts: tuple[Part, ...]
    effort: Effort
    load: LoadEffort
    sd15: str | None = None

    def command(self) -> str:
        """The command line that does the same again, from a folder in which the bundles lie."""
        words = ["python", "-m", "benchmarks", "--bundle", self.bundle, "--steps", str(self.steps)]
        for part in self.parts:
            words += ["--part", part.value]
        words += ["--rounds", str(self.effort.rounds), "--at-once", str(self.effort.at_once)]
        words += ["--shorts", str(self.load.shorts)]
        return shlex.join(words if self.sd15 is None else [*words, "--sd15", self.sd15])
