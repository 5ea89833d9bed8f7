"""The Python blocks of README.md and ARCHITECTURE.md run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(code, id=f"{name}-{number}")
    for name in ("README.md", "ARCHITECTURE.md")
    for number, code in enumerate(_FENCE.findall((ROOT / name).read_text()))
]


def test_there_are_blocks() -> None:
    assert BLOCKS


@pytest.mark.parametrize("code", BLOCKS)
def test_a_block_runs(code: str) -> None:
    exec(compile(code, "documentation", "exec"), {})
