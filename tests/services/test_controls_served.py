"""Control pictures, LoRAs and image prompts over HTTP, on a local cluster: as the chain in one process has them."""

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from components.contract import Kind
from components.folder import ComponentFolder
from pipeline.adapter import Adapter
from pipeline.controlnet import ControlNet
from pipeline.controls import ControlBy
from pipeline.image_to_image import ImageToImage
from pipeline.text_to_image import TextToImage
from registry.gate.examine import GateSettings
from registry.registry import Registry
from registry.rollout import steps
from registry.settings import RegistrySettings
from runtime.settings import SessionSettings
from tests.bad_components import add_golden_cases
from tests.services.cluster import MOST_SECONDS, Application, Cluster, comes_true
from tests.services.controlled import write_controlled, write_controlnet

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ASKED: dict[str, Any] = {"seed": 3, "steps": 8, "guidance": 4}
SETTINGS = SessionSettings(threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_controlled(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def application(cluster: Cluster, folder: Path) -> Iterator[Application]:
    with cluster.deployed("held", "toy", folder, rollout={"poll_s": 0.2}) as made:
        yield made


@pytest.fixture(scope="module")
def edges(folder: Path) -> ControlNet:
    return ControlNet(ComponentFolder.open(folder / "controlnet-edges"), SETTINGS)


@pytest.fixture(scope="module")
def lines(folder: Path) -> Adapter:
    return Adapter(ComponentFolder.open(folder / "adapter-lines"), SETTINGS)


def drawing(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def control(name: str, seed: int, **how: Any) -> dict[str, Any]:
    return {"model": f"toy.{name}", "image": base64.b64encode(png(drawing(seed))).decode(), **how}


def pixels(file: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(file)))


def drawn(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return pixels(response.content)


def test_a_picture_that_is_held_is_that_of_the_chain_in_one_process_and_of_its_story(
    application: Application, folder: Path, edges: ControlNet, lines: Adapter
) -> None:
    # of adapters no replica runs before they are asked for
    replicas = httpx.get(f"{application.url}/readyz", timeout=30).json()["replicas"]
    assert (replicas["adapter"], replicas["image_encoder"], replicas["denoiser"]) == (0, 0, 1)
    controls = [control("controlnet.edges", 1, scale=0.7, end=0.75), control("adapter.lines", 2, start=0.25)]
    made = application.generate(prompt="a red apple", controls=controls, size="128x64", **ASKED)
    by = [
        ControlBy(model=edges, image=drawing(1), scale=0.7, end=0.75),
        ControlBy(model=lines, image=drawing(2), start=0.25),
    ]
    chain = TextToImage.load(folder)
    for held in (by, by[:1], []):
        expected = chain.generate("a red apple", controls=held, width=128, height=64, **ASKED)
        assert (drawn(made) == np.asarray(expected)).all() == (held == by)

    files = {
        "image": made.content,
        **{f"controls[{number}][image]": png(drawing(seed)) for number, seed in enumerate((1, 2))},
    }
    said = httpx.post(f"{application.url}/v1/verify", files=files, timeout=MOST_SECONDS)
    assert said.status_code == 200, said.text
    assert said.json()["equal"] is True
    assert application.metric_reaches(1, "latentworks_stage_seconds_count", 'stage="adapter"', "toy.adapter.lines/1")


def test_loras_and_pictures_to_be_like_are_those_of_one_process_and_of_the_story(
    application: Application, folder: Path
) -> None:
    loras = [("style", 0.8), ("ink", -0.5)]
    alike = [drawing(7), drawing(8)]
    made = application.generate(
        prompt="a red apple",
        loras=[{"model": f"toy.lora.{name}", "scale": scale} for name, scale in loras],
        image_prompts=[base64.b64encode(png(one)).decode() for one in alike],
        image_prompt_scale=0.6,
        **ASKED,
    )
    chain = TextToImage.load(folder, loras={name: folder / f"lora-{name}" for name, _ in loras})
    chosen = [{"model": name, "scale": scale} for name, scale in loras]
    for asked in (
        {"loras": chosen, "image_prompts": alike, "image_prompt_scale": 0.6},
        {"loras": chosen},
        {"image_prompts": alike, "image_prompt_scale": 0.6},
    ):
        expected = np.asarray(chain.generate("a red apple", **asked, **ASKED))
        assert (drawn(made) == expected).all() == (len(asked) == 3)
    files = {"image": made.content, **{f"image_prompts[{number}]": png(one) for number, one in enumerate(alike)}}
    said = httpx.post(f"{application.url}/v1/verify", files=files, timeout=MOST_SECONDS)
    assert said.status_code == 200, said.text
    assert said.json()["equal"] is True
    for label in ('stage="image_encoder"', 'stage="lora"'):
        assert application.metric_reaches(1, "latentworks_open_seconds_count", label)


def test_an_edit_is_held_too(application: Application, folder: Path, edges: ControlNet) -> None:
    files = {"image": png(drawing(4)), "controls[0][image]": png(drawing(1))}
    fields = {"prompt": "a red apple", "size": "64x64", "strength": "0.6", "controls[0][model]": "toy.controlnet.edges"}
    made = httpx.post(
        f"{application.url}/v1/images/edits",
        files=files,
        data={**fields, **{name: str(value) for name, value in ASKED.items()}},
        headers={"accept": "image/png"},
        timeout=MOST_SECONDS,
    )
    expected = ImageToImage.load(folder).generate(
        "a red apple",
        drawing(4),
        controls=[ControlBy(model=edges, image=drawing(1))],
        strength=0.6,
        width=64,
        height=64,
        **ASKED,
    )
    np.testing.assert_array_equal(drawn(made), np.asarray(expected))


def test_a_job_draws_the_same(application: Application) -> None:
    asked = {"prompt": "a red apple", "controls": [control("controlnet.edges", 1)], **ASKED}
    made = drawn(application.generate(**asked))
    job = httpx.post(f"{application.url}/v1/jobs", json=asked, timeout=MOST_SECONDS).json()

    def state() -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{application.url}/v1/jobs/{job['id']}", timeout=30).json()
        return found

    assert comes_true(lambda: state()["status"] in ("completed", "failed"))
    [image] = state()["result"]["data"]
    np.testing.assert_array_equal(pixels(base64.b64decode(image["b64_json"])), made)


def test_runs_have_rows_with_and_without_control(application: Application) -> None:
    version = 'version="toy.denoiser/1"'
    name, at_most_two = "latentworks_denoiser_rows", 'le="2.0"'

    def shared() -> float:
        return application.metric(f"{name}_count", version) - application.metric(f"{name}_bucket", version, at_most_two)

    before = shared()
    bodies = [
        {"prompt": "a red apple", "seed": seed, "steps": 150, "guidance": 4, **held}
        for seed in range(3)
        for held in ({}, {"controls": [control("controlnet.edges", seed)]})
    ]
    alone = [application.generate(**body).content for body in bodies]
    with ThreadPoolExecutor(6) as clients:
        assert list(clients.map(lambda body: application.generate(**body).content, bodies)) == alone
    assert comes_true(lambda: shared() > before)


def test_a_controlnet_that_comes_later_is_asked_for_once_it_has_passed_the_gate(
    application: Application, cluster: Cluster, tmp_path: Path
) -> None:
    registry = Registry.connect(RegistrySettings(home=cluster.home / "registry-held"))
    path = write_controlnet(tmp_path / "controlnet-pose", 5)
    add_golden_cases(path)
    pin = registry.publish(path, "toy.controlnet.pose")
    asked = {"prompt": "a red apple", **ASKED}
    refused = application.generate_json(**asked, controls=[control(f"controlnet.pose/{pin.version}", 1)])
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "controls[0].model")
    steps.promote(registry, [pin], GateSettings(steps=1))

    def live() -> list[dict[str, Any]]:
        found = httpx.get(f"{application.url}/v1/capabilities", timeout=30).json()["named"][Kind.CONTROLNET]
        return [one for one in found if one["name"] == pin.name]

    assert comes_true(live)
    assert live()[0]["live"] is True
    by_pose = drawn(application.generate(**asked, controls=[control("controlnet.pose", 1)]))
    assert (by_pose != drawn(application.generate(**asked, controls=[control("controlnet.edges", 1)]))).any()
