"""Requests by an infotext: the same picture again, or a refusal."""

import json
from typing import Any

import pytest

from components.contract import Kind
from tests.services.ingress.a1111.conftest import post, refused, request_of, txt2img

Server = Any


def test_an_infotext_gives_what_the_other_fields_do_not(server: Server) -> None:
    text = (
        "a (blue:1.2) boat, still\nNegative prompt: red\n"
        "Steps: 9, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 3.5, Seed: 11, Size: 128x64, "
        "Model: toy, Clip skip: 2, RNG: NV, Version: v1.10.1"
    )
    given = {"infotext": text, "prompt": None, "steps": 4}
    request = request_of(server, **given)
    assert (request.prompt, request.negative_prompt, request.seed) == ("a (blue:1.2) boat, still", "red", 11)
    assert (request.weighting, request.clip_skip) == ("a1111", 2)
    assert (request.sampler, request.schedule, request.guidance, request.rng) == ("dpmpp_2m", "karras", 3.5, "philox")
    assert (request.width, request.height, request.steps) == (128, 64, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a boat\nSteps: 9, Hires upscale: 2", "'hires upscale' cannot be honoured"),
        ("a boat\nSteps: 9, Guidance rescale: 0.5", "'guidance_rescale' cannot be honoured"),
        ("a boat\nSteps: 9, Model: sd15", "Model: must be 'toy'"),
        ("nothing of the kind", "must be an infotext"),
    ],
)
def test_an_infotext_that_cannot_be_honoured_is_refused(server: Server, text: str, said: str) -> None:
    detail = refused(txt2img(server, infotext=text), 422)["detail"]
    assert detail.startswith("infotext: ")
    assert said in detail


def test_a_picture_by_its_own_infotext_is_the_same(server: Server) -> None:
    """Of every sampler that A1111 has a name for, with whatever schedule."""
    for asked in ({"sampler_name": "Euler a"}, {"sampler_name": "DPM++ 2M"}, {"sampler_name": "DDIM", "eta": 0.5}):
        first = txt2img(server, seed=8, steps=5, width=64, height=64, **asked).json()
        [infotext] = json.loads(first["info"])["infotexts"]
        second = post(server, "txt2img", infotext=infotext).json()
        assert second["images"] == first["images"]
        assert server.orders[-1].request == server.orders[-2].request


def test_an_infotext_comes_before_the_options_that_are_set(server: Server) -> None:
    first = txt2img(server, prompt="a (red:1.2) apple", seed=8, width=64, height=64).json()
    options = {"randn_source": "NV", "emphasis": "None", "CLIP_stop_at_last_layers": 2}
    assert post(server, "options", **options).status_code == 200
    [infotext] = json.loads(first["info"])["infotexts"]
    assert post(server, "txt2img", infotext=infotext).json()["images"] == first["images"]
    for emphasis in ("None", None, ""):
        body = {"infotext": infotext, "override_settings": {"emphasis": emphasis}}
        assert post(server, "txt2img", **body).status_code == 200
    assert [order.request.weighting for order in server.orders] == ["a1111", "a1111", "none", "a1111", "a1111"]
    assert "override_settings" in refused(txt2img(server, infotext=infotext, override_settings=3), 422)["detail"]


@pytest.mark.parametrize(
    ("weighting", "prompt"),
    [("none", "a (red:1.3) AND [blue|green]"), ("a1111", "a (red:1.3) [blue]"), ("compel", "a (red)1.3 apple++")],
)
def test_the_other_faces_picture_by_its_infotext_is_the_same(server: Server, weighting: str, prompt: str) -> None:
    """Whatever its signs are to the other face."""
    theirs = server.generate(prompt=prompt, weighting=weighting, clip_skip=2, seed=3, size="64x64", sampler="ddim")
    [given] = theirs.json()["data"]
    told = post(server, "png-info", image=given["b64_json"]).json()
    for body in (told["parameters"], {"infotext": told["info"]}):
        live = server.pinning.record.live
        decoder = live.pins[Kind.VAE_DECODER]
        server.controller.versions[str(decoder)] = (decoder, live.contracts[Kind.VAE_DECODER])
        assert post(server, "txt2img", **body).json()["images"] == [given["b64_json"]]
        assert server.orders[-1].request == server.orders[0].request
