"""OpenAI's own client for Node against the application behind a real socket."""

import base64
import io
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.errors import ServingError
from services.messages import Drawn, Order, Progress
from tests.services.ingress.conftest import listening, watch_at_once

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None or shutil.which("npm") is None, reason="needs node and npm"),
]

Server = Any
PACKAGE = "openai@6.49.0"
SCRIPT = Path(__file__).with_name("sdk.mjs")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside an installed client, as modules are looked for beside what imports them."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text("{}")
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", PACKAGE]
    subprocess.run(install, cwd=folder, check=True, capture_output=True, timeout=300)
    return Path(shutil.copy(SCRIPT, folder))


async def breaks(order: Order, preview_every: int) -> AsyncIterator[Progress | Drawn]:
    """What is drawn at once, but for a prompt that asks for what breaks on its way."""
    async for news in watch_at_once(order, preview_every):
        if "broken" in order.request.prompt and isinstance(news, Progress) and news.step > 12:
            raise ServingError("denoiser: something went wrong")
        yield news


def opened(b64_json: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


def test_pictures_links_events_and_errors(server: Server, script: Path) -> None:
    server.watch = breaks
    with listening(server) as url:
        ran = subprocess.run(["node", script, f"{url}/v1"], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert [(opened(one).format, opened(one).size) for one in seen["pictures"]] == [("WEBP", (128, 64))] * 2
    assert seen["answer"]["usage"]["total_tokens"] == 3 + 2 * 16 * 8
    assert (seen["answer"]["quality"], seen["answer"]["background"]) == ("low", "opaque")
    assert seen["link"] == {"status": 200, "type": "image/png"}
    types = [event["type"].removeprefix("image_generation.") for event in seen["events"]]
    assert types == [*["progress"] * 3, "partial_image"] * 2 + ["progress"] * 3 + ["completed"]
    assert [event["index"] for event in seen["events"] if "index" in event] == [0, 1]
    assert opened(seen["events"][-1]["picture"]).size == (64, 64)
    assert seen["refused"] == {
        "name": "UnprocessableEntityError",
        "status": 422,
        "code": "invalid_value",
        "param": "style",
    }
    assert (seen["missing"]["name"], seen["missing"]["code"]) == ("NotFoundError", "model_not_found")
    assert (seen["broken"]["name"], seen["broken"]["code"]) == ("APIError", "internal_error")
