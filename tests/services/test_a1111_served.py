"""A1111's clients on a real cluster: the pictures of the other faces, progress of a real walk, and its end."""

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webuiapi
from PIL import Image

from pipeline.image_to_image import ImageToImage
from pipeline.text_to_image import TextToImage
from tests.services.server import Served, serving, temporary_home

pytestmark = pytest.mark.slow

MOST_SECONDS = 120


@pytest.fixture(scope="module")
def served(toy_bundle: Path) -> Iterator[Served]:
    with temporary_home() as home, serving(home, "bundle=toy", f"folder={toy_bundle}") as server:
        yield server


@pytest.fixture
def api(served: Served) -> Iterator[Any]:
    made = webuiapi.WebUIApi(baseurl=f"{served.url}/sdapi/v1", sampler="Euler", steps=9)
    yield made
    made.session.close()


def comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_pictures_are_those_of_the_chain_in_one_process(api: Any, toy_bundle: Path) -> None:
    chain = TextToImage.load(toy_bundle)
    result = api.txt2img(prompt="a red apple", seed=3, cfg_scale=4, width=128, height=64, batch_size=2, n_iter=2)
    assert result.info["all_seeds"] == [3, 4, 5, 6]
    for seed, picture in zip(result.info["all_seeds"], result.images, strict=True):
        asked = {"seed": seed, "steps": 9, "guidance": 4, "sampler": "euler", "width": 128, "height": 64}
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(chain.generate("a red apple", **asked)))
    assert api.png_info(result.images[1]).parameters["seed"] == 4


def test_signs_weigh_and_layers_are_skipped_as_in_the_chain(api: Any, toy_bundle: Path) -> None:
    chain, prompt = TextToImage.load(toy_bundle), "a (red:1.4) apple [green] boat"
    size: dict[str, Any] = {"seed": 3, "width": 64, "height": 64}
    asked: dict[str, Any] = {**size, "steps": 9, "guidance": 7, "sampler": "euler", "weighting": "a1111"}
    drawn = []
    for clip_skip in (1, 2):
        api.set_options({"CLIP_stop_at_last_layers": clip_skip})
        drawn.append(np.asarray(api.txt2img(prompt=prompt, **size).image))
        np.testing.assert_array_equal(drawn[-1], np.asarray(chain.generate(prompt, clip_skip=clip_skip, **asked)))
    plain = api.txt2img(prompt=prompt, override_settings={"emphasis": "None", "CLIP_stop_at_last_layers": 1}, **size)
    assert (drawn[0] != drawn[1]).any()
    assert (drawn[0] != np.asarray(plain.image)).any()
    api.set_options({"CLIP_stop_at_last_layers": 1})


def test_an_edit_is_that_of_the_chain_and_keeps_what_is_not_masked(api: Any, toy_bundle: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(4).integers(0, 256, (64, 128, 3), dtype=np.uint8))
    mask = Image.new("L", photo.size)
    mask.paste(255, (32, 0, 96, 64))
    chain = ImageToImage.load(toy_bundle)
    asked: dict[str, Any] = {"seed": 3, "steps": 9, "guidance": 7, "strength": 0.6, "sampler": "euler"}
    ours: dict[str, Any] = {"prompt": "a red apple", "seed": 3, "denoising_strength": 0.6, "width": 128, "height": 64}

    plain = api.img2img(images=[photo], **ours).image
    expected = chain.generate("a red apple", photo, width=128, height=64, **asked)
    np.testing.assert_array_equal(np.asarray(plain), np.asarray(expected))

    whole = {"mask_blur": 0, "inpaint_full_res": False, "inpainting_fill": 1}
    edited = np.asarray(api.img2img(images=[photo], mask_image=mask, **whole, **ours).image)
    drawn = np.asarray(chain.generate("a red apple", photo, mask, width=128, height=64, **asked))
    np.testing.assert_array_equal(edited[:, 32:96], drawn[:, 32:96])
    np.testing.assert_array_equal(edited[:, :32], np.asarray(photo)[:, :32])
    np.testing.assert_array_equal(edited[:, 96:], np.asarray(photo)[:, 96:])

    # as its own defaults have it: the masked part alone, filled, with a blurred edge
    default = np.asarray(api.img2img(images=[photo], mask_image=mask, **ours).image)
    assert default.shape == (64, 128, 3)
    np.testing.assert_array_equal(default[:, :16], np.asarray(photo)[:, :16])
    assert (default[:, 56:72] != np.asarray(photo)[:, 56:72]).any()


def test_a_long_walk_tells_how_far_it_is_and_is_ended(served: Served, api: Any) -> None:
    results: list[Any] = []
    other = webuiapi.WebUIApi(baseurl=f"{served.url}/sdapi/v1")
    long = {"prompt": "a boat", "steps": 150, "width": 1024, "height": 1024, "batch_size": 2, "n_iter": 2}
    thread = threading.Thread(target=lambda: results.append(other.txt2img(**long)))
    thread.start()
    seen: list[Any] = []

    def shown() -> bool:
        seen.append(api.get_progress())
        return seen[-1]["current_image"] is not None

    assert comes_true(shown)
    assert 0 < seen[-1]["progress"] < 1
    preview = Image.open(io.BytesIO(base64.b64decode(seen[-1]["current_image"])))
    assert preview.size == (1024, 1024)
    shares = [one["progress"] for one in seen]
    assert shares == sorted(shares)
    assert api.interrupt() == {}
    thread.join(MOST_SECONDS)
    assert not thread.is_alive()
    assert len(results[0].images) < 4
    assert api.get_progress()["state"]["job_count"] == 0
    # its places are free again: the denoiser goes on with others
    assert api.txt2img(prompt="a", width=64, height=64).image.size == (64, 64)
    other.session.close()


def test_lists_and_options(api: Any) -> None:
    assert [one["model_name"] for one in api.get_sd_models()] == ["toy"]
    [vae] = api.get_sd_vae()
    assert vae["model_name"] == "toy.vae_decoder/1"
    assert {"Euler", "DDIM"} <= set(api.util_get_sampler_names())
    api.set_options({"sd_vae": vae["model_name"]})
    assert api.txt2img(prompt="a", width=64, height=64).info["sd_vae_name"] == "toy.vae_decoder/1"
    api.set_options({"sd_vae": "Automatic"})
    assert api.get_options()["sd_vae"] == "Automatic"
