"""`python -m pipeline.tasks.reference FILE`: the page of tasks, made from the code and the measured differences."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from pipeline.tasks.table import TASKS, Task

FIGURES = "tasks.json"

_INTRODUCTION = """\
# Tasks

Written by `make docs`. What a bundle can do follows from its components' contracts; `GET /v1/capabilities` tells it of
the one that is served. Each task is compared as a whole with the pipeline of the same name in diffusers, on the same
noise: on checkpoints of the smallest geometry that a class allows, with random weights, and on the bundled model.
"""

_DIFFERENCES = """\
## How far from diffusers

The mean absolute difference of two pictures of 8 bits, 0 to 255, and the largest of one value; the worst of all cases
that the tests compare. 0.5 is what rounding alone can make of it. Measured by
`pytest -m '' --differences docs/tasks.json` of the tests named; a test fails above a mean of 1.
"""


class Difference(BaseModel):
    """How far the pictures of a task are from those of the reference, of 255, the worst of `cases`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    model: str
    reference: str
    mean: float
    most: float
    cases: int
    test: str


Differences = TypeAdapter(list[Difference])


def page(differences: Iterable[Difference]) -> str:
    """The whole page, in Markdown; raises KeyError for a difference of a task that there is not."""
    by_task: dict[str, list[Difference]] = {name: [] for name in TASKS}
    for one in differences:
        by_task[one.task].append(one)
    tasks = _table(("task", "what", "fields", "asked for", "in diffusers"), (_task(task) for task in TASKS.values()))
    measured = _table(
        ("task", "model", "in diffusers", "mean", "most", "cases", "test"),
        (_difference(one) for of_task in by_task.values() for one in of_task),
    )
    return "\n\n".join(part.strip() for part in (_INTRODUCTION, tasks, _DIFFERENCES, measured)) + "\n"


def _task(task: Task) -> tuple[str, ...]:
    fields, references = (", ".join(f"`{name}`" for name in names) for names in (task.fields, task.references))
    asked_for = "by HTTP" if task.served else "in one process only"
    return f"`{task.name}`", task.what, fields or "the prompt alone", asked_for, references


def _difference(one: Difference) -> tuple[str, ...]:
    mean, most = f"{one.mean:.4f}", f"{one.most:.0f}"
    return f"`{one.task}`", one.model, f"`{one.reference}`", mean, most, str(one.cases), f"`{one.test}`"


def _table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    lines = [" | ".join(cells) for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def measured(folder: Path) -> list[Difference]:
    """The differences that were measured last, from the JSON beside the page."""
    return Differences.validate_json((folder / FIGURES).read_bytes())


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description="Write the page of tasks.")
    parser.add_argument("file", type=Path, help="where the page goes, beside the measured differences")
    file = parser.parse_args().file
    file.write_text(page(measured(file.parent)), encoding="utf-8")


if __name__ == "__main__":
    main()
