"""Stages of which no replica runs until one is needed, on a real local cluster."""

import base64
import io
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pipeline.text_to_image import TextToImage
from registry.gate.examine import GateSettings
from registry.registry import Registry
from registry.rollout import steps
from registry.settings import RegistrySettings
from tests.bad_components import other_weights
from tests.services.cluster import MOST_SECONDS, Application, Cluster, comes_true

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

# they rest as soon as Serve sees that nobody has called for a time, which takes it some forty seconds
RESTS: dict[str, Any] = {
    "replicas": 0,
    "max_replicas": 1,
    "upscale_delay_s": 0,
    "downscale_delay_s": 0,
    "downscale_to_zero_delay_s": 0,
}
DRAWN = ("text_encoder", "denoiser", "vae_decoder")
MOST_HELD = 3
ASKED: dict[str, Any] = {"prompt": "a red apple", "seed": 3, "steps": 4, "guidance": 4}


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Path:
    return cluster.home / "resting"


@pytest.fixture(scope="module")
def resting(cluster: Cluster, toy: Path, home: Path) -> Iterator[Application]:
    """All stages rest at the start; no node is of the VAE encoder's pool, so that its start takes as long as a test."""
    stages: dict[str, Any] = dict.fromkeys(DRAWN, RESTS)
    # Serve waits so long for the end of a replica that was never placed, too
    stages["vae_encoder"] = {**RESTS, "pool": "nowhere", "graceful_shutdown_timeout_s": 1}
    others = {"graph": {"max_held": MOST_HELD}, "rollout": {"poll_s": 0.2}, "jobs": {"at_once": 1}}
    with cluster.deployed("resting", "toy", toy, registry={"home": home}, **stages, **others) as application:
        yield application


@pytest.fixture
def later() -> Iterator[Callable[..., "Future[httpx.Response]"]]:
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


def running(application: Application) -> dict[str, int]:
    """The replicas of each deployment, as the server tells them while it is ready."""
    answer = httpx.get(f"{application.url}/readyz", timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, int] = answer.json()["replicas"]
    return found


def rests(application: Application) -> bool:
    found = running(application)
    return not any(found[name] for name in DRAWN)


def pixels(file: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(file)))


def photo() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def edit(application: Application, timeout: float = MOST_SECONDS, **data: Any) -> httpx.Response:
    """An edit, which needs the VAE encoder."""
    return httpx.post(
        f"{application.url}/v1/images/edits",
        files={"image": ("image.png", photo(), "image/png")},
        data={name: str(value) for name, value in {**ASKED, **data}.items()},
        timeout=timeout,
    )


def held(application: Application, requests: int) -> bool:
    """Whether it comes to hold so many requests for the VAE encoder."""
    name = "latentworks_held_requests"
    return comes_true(lambda: application.metric(name, 'stage="vae_encoder"') == requests)


def test_it_is_ready_at_rest_and_the_first_request_finds_its_picture(resting: Application, toy: Path) -> None:
    assert rests(resting)
    answer = resting.generate(**ASKED)
    assert answer.status_code == 200
    expected = TextToImage.load(toy).generate(**ASKED)
    np.testing.assert_array_equal(pixels(answer.content), np.asarray(expected))
    found = running(resting)
    assert [found[name] for name in DRAWN] == [1, 1, 1]
    told = httpx.get(f"{resting.url}/v1/requests/{answer.headers['x-request-id']}/timeline", timeout=30).json()
    assert "held" in {span["name"] for span in told["spans"]}
    for stage in DRAWN:
        assert resting.metric_reaches(1, "latentworks_start_seconds_count", f'stage="{stage}"')


def test_more_than_may_be_held_are_refused_and_those_held_leave_nothing_behind(
    resting: Application, later: Callable[..., "Future[httpx.Response]"]
) -> None:
    # who has a deadline, and who goes away
    with pytest.raises(httpx.ReadTimeout):
        edit(resting, timeout=2)
    late = edit(resting, deadline_s=1.5)
    assert late.status_code == 504
    error = late.json()["error"]
    assert (error["code"], error["param"]) == ("deadline_exceeded", "deadline_s")
    assert error["message"] == "deadline_s=1.5: has passed before a replica had started"
    assert held(resting, 0)

    # as many as may be, of as many pictures as they like
    waiting = [later(edit, resting, n=2, deadline_s=40) for _ in range(MOST_HELD)]
    assert held(resting, MOST_HELD)
    refused = edit(resting)
    assert refused.status_code == 429
    assert (refused.json()["error"]["code"], int(refused.headers["retry-after"]) > 0) == ("overloaded", True)
    a1111 = httpx.post(
        f"{resting.url}/sdapi/v1/img2img",
        json={
            "prompt": "a red apple",
            "steps": 2,
            "width": 64,
            "height": 64,
            "init_images": [base64.b64encode(photo()).decode()],
        },
        timeout=MOST_SECONDS,
    )
    assert (a1111.status_code, int(a1111.headers["retry-after"]) > 0) == (429, True)
    assert "requests wait for one to start" in json.dumps(a1111.json())
    # what needs no VAE encoder is drawn meanwhile
    assert resting.generate(**ASKED).status_code == 200

    # a job waits for its turn, and does not fail
    with pytest.raises(httpx.ReadTimeout):
        edit(resting, timeout=5, on_disconnect="keep")
    [job] = httpx.get(f"{resting.url}/v1/jobs", timeout=30).json()["data"]
    assert job["status"] in ("queued", "generating")
    assert [one.result().status_code for one in waiting] == [504] * MOST_HELD
    # it is held itself now
    assert held(resting, 1)
    url = f"{resting.url}/v1/jobs/{job['id']}"
    assert httpx.get(url, timeout=30).json()["status"] == "generating"
    assert httpx.delete(url, timeout=30).json()["status"] == "cancelled"
    assert held(resting, 0)
    assert resting.metric("latentworks_admitted_images") == 0


def test_a_version_goes_live_at_rest_and_is_what_starts(
    resting: Application, toy: Path, home: Path, tmp_path: Path
) -> None:
    kept = resting.generate_json(**ASKED, store_latents=True).json()["data"][0]["latents"]
    assert comes_true(lambda: rests(resting))
    registry = Registry.connect(RegistrySettings(home=home))
    bundle = tmp_path / "toy"
    shutil.copytree(toy, bundle)
    shutil.rmtree(bundle / "vae_decoder")
    other_weights(toy / "vae_decoder", bundle / "vae_decoder", scale=0.97)
    second = registry.publish(bundle / "vae_decoder", "toy.vae_decoder")
    steps.promote(registry, [second], GateSettings(time_s=60))
    assert rests(resting), "nothing was started for it"
    shown = httpx.get(f"{resting.url}/v1/rollout", timeout=30).json()
    assert (shown["state"], shown["replicas"]["vae_decoder"]) == ("live", [])

    # kept latents need the decoder alone
    decoded = httpx.post(
        f"{resting.url}/v1/latents/{kept}/decode",
        json={"components": {"vae_decoder": "toy.vae_decoder/2"}},
        headers={"accept": "image/png"},
        timeout=MOST_SECONDS,
    )
    assert decoded.status_code == 200, decoded.text
    expected = np.asarray(TextToImage.load(bundle).generate(**ASKED))
    np.testing.assert_array_equal(pixels(decoded.content), expected)
    found = running(resting)
    assert [found[name] for name in DRAWN] == [0, 0, 1]

    answer = resting.generate(**ASKED)
    assert "toy.vae_decoder/2" in answer.headers["x-component-versions"]
    np.testing.assert_array_equal(pixels(answer.content), expected)
