"""What the documents show runs, and what is made from the code is current."""

import re
from pathlib import Path

import pytest

from diffusion.samplers import reference as samplers_reference
from pipeline.tasks import reference as tasks_reference
from pipeline.tasks.table import TASKS
from services.metrics import reference as metrics_reference
from services.reference import page
from tests.differences import MOST_OFF

ROOT = Path(__file__).parent.parent
_FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)|(?<!!)\[[^\]]+\]\((?!http)([^)#]+)\)")
PAGES = (
    "README.md",
    "ARCHITECTURE.md",
    "docs/a1111.md",
    "docs/api.md",
    "docs/bundled-editing.md",
    "docs/bundled-model.md",
    "docs/client.md",
    "docs/guidance.md",
    "docs/keys.md",
    "docs/latents.md",
    "docs/metrics.md",
    "docs/openai.md",
    "docs/prompts.md",
    "docs/samplers.md",
    "docs/serving.md",
)
BLOCKS = [
    pytest.param(code, id=f"{name}-{number}")
    for name in ("README.md", "ARCHITECTURE.md")
    for number, code in enumerate(_FENCE.findall((ROOT / name).read_text()))
]


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("code", BLOCKS)
def test_a_block_runs(code: str) -> None:
    exec(compile(code, "documentation", "exec"), {})


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_shows_or_points_to_is_there(name: str) -> None:
    folder = (ROOT / name).parent
    named = [shown or linked for shown, linked in _PICTURE.findall((ROOT / name).read_text())]
    assert named or name == "ARCHITECTURE.md"
    assert [path for path in named if not (folder / path).exists()] == []


def test_the_page_of_settings_is_current() -> None:
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == page(), "run `make docs`"


def test_the_page_of_tasks_is_current_and_every_task_was_compared_and_is_near() -> None:
    differences = tasks_reference.measured(ROOT / "docs")
    written = (ROOT / "docs/tasks.md").read_text(encoding="utf-8")
    assert written == tasks_reference.page(differences), "run `make docs`"
    compared = {(one.task, one.reference) for one in differences}
    assert compared >= {(task.name, reference) for task in TASKS.values() for reference in task.references}
    assert [one for one in differences if one.mean > MOST_OFF or not (ROOT / one.test).exists()] == []


def test_the_page_of_samplers_is_current() -> None:
    written = (ROOT / "docs/samplers.md").read_text(encoding="utf-8")
    assert written == samplers_reference.page(), "run `make docs`"


def test_the_page_of_metrics_is_current() -> None:
    written = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert written == metrics_reference.page(), "run `make docs`"
