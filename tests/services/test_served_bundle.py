"""The bundled model served as `make run` does, asked with the README's own curl."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.services.server import ROOT, Served, serving, temporary_home

pytestmark = pytest.mark.slow
_CURL = re.compile(r"^```sh\n(curl .*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with temporary_home() as home, serving(home) as server:
        yield server


def test_the_readmes_curl_draws_a_red_apple(served: Served, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (line,) = _CURL.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    shown = line.replace("localhost:8000", served.url.removeprefix("http://"))
    assert shown != line
    done = subprocess.run(["sh", "-ec", shown], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "apple.png") as image:
        assert image.format == "PNG"
        assert image.size == (128, 128)
        red, green, blue = np.asarray(image.convert("RGB"))[32:96, 32:96].reshape(-1, 3).mean(axis=0)
    assert red > 1.5 * max(green, blue)
