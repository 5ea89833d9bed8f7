"""The bundled model served as `make run` does, asked with the README's own curl."""

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.services.test_served import ROOT, Served, command, environment, free_port, wait_until_ready

pytestmark = pytest.mark.slow
_CURL = re.compile(r"^```sh\n(curl .*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="lw", dir="/tmp", ignore_cleanup_errors=True) as path:
        home = Path(path)
        output = home / "output.txt"
        with output.open("w") as out:
            process = subprocess.Popen(
                command("--port", str(port)), cwd=ROOT, env=environment(home), stdout=out, stderr=out, text=True
            )
        server = Served(process, f"http://127.0.0.1:{port}", output, home / "ray")
        try:
            wait_until_ready(server)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=180)


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
