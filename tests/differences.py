"""How far whole pictures are from those of a reference: what the tests bound, and the page of tasks tells."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.tasks.reference import Difference, Differences

# of 255: what a mean may be off; rounding alone makes less
MOST_OFF = 1.0


@dataclass
class Measured:
    """What was measured in one test session, the worst of each task, model and reference."""

    worst: dict[tuple[str, str, str], Difference] = field(default_factory=dict)

    def note(self, task: str, model: str, reference: str, ours: Image.Image, theirs: npt.NDArray[np.floating]) -> float:
        """Note a picture of ours beside the reference's [height, width, 3], 0..1, and give the mean difference, of 255.

        The difference must be small beside what the picture shows: an empty one equals any other.
        """
        pixels, expected = np.asarray(ours).astype(float), np.round(np.asarray(theirs, np.float64) * 255)
        assert pixels.shape == expected.shape
        off = np.abs(pixels - expected)
        assert off.mean() < 0.2 * expected.std(), "another picture, or one that shows nothing"
        key = (task, model, reference)
        known = self.worst.get(key)
        cases, mean, most = (1, 0.0, 0.0) if known is None else (known.cases + 1, known.mean, known.most)
        self.worst[key] = Difference(
            task=task,
            model=model,
            reference=reference,
            mean=round(max(mean, float(off.mean())), 4),
            most=max(most, float(off.max())),
            cases=cases,
            test=_this_test(),
        )
        return float(off.mean())

    def write(self, file: Path) -> None:
        """Write what was measured over what stands there of the same tasks, models and references."""
        kept = Differences.validate_json(file.read_bytes()) if file.exists() else []
        all_of_them = {(one.task, one.model, one.reference): one for one in kept} | self.worst
        file.write_bytes(Differences.dump_json(sorted(all_of_them.values(), key=_order), indent=2) + b"\n")


def _order(one: Difference) -> tuple[str, str, str]:
    return one.task, one.model, one.reference


def _this_test() -> str:
    return os.environ["PYTEST_CURRENT_TEST"].split("::")[0]
