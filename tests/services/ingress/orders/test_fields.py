"""A body's fields: which order they make, and what is refused by name."""

import io
import json
import math
from typing import Any

import pytest
from PIL import Image

from components.contract import Kind
from pipeline.request import RequestRules
from services.encoding import METADATA_KEY
from services.errors import FieldError
from services.ingress.orders.fields import check_form, typed_body
from services.messages import LiveModel, Terms
from tests.services.ingress.conftest import error_of

Server = Any


def test_fields_reach_the_order(server: Server) -> None:
    server.generate(
        prompt="a", negative_prompt="b", seed=0, steps=3, guidance=0, sampler="euler", size="128x64", model="toy"
    )
    request = server.orders[0].request
    assert (request.prompt, request.negative_prompt, request.seed, request.steps) == ("a", "b", 0, 3)
    assert (request.guidance, request.sampler, request.width, request.height) == (0.0, "euler", 128, 64)


def test_the_noises_fields_reach_the_order_and_are_told(server: Server) -> None:
    noise = {"rng": "philox", "subseed": 5, "subseed_strength": 0.25}
    answer = server.generate(prompt="a", seed=2, n=2, **noise).json()
    request = server.orders[0].request
    assert (request.rng, request.subseed, request.subseed_strength) == ("philox", 5, 0.25)
    assert [(one["seed"], one["subseed"]) for one in answer["data"]] == [(2, 5), (2, 6)]
    raw = server.generate("image/png", prompt="a", subseed_strength=1)
    assert raw.headers["x-subseed"] == str(server.orders[1].request.subseed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("guidance_rescale", 0.7),
        ("guidance_start", 0.25),
        ("guidance_end", 0.75),
        ("adaptive_guidance", 0.99),
        ("eta", 0.5),
        ("schedule", "default"),
        ("weighting", "a1111"),
        ("clip_skip", 2),
    ],
)
def test_every_part_of_the_walk_reaches_the_order_and_the_files_metadata(
    server: Server, field: str, value: float | str
) -> None:
    response = server.generate("image/png", prompt="a", **{field: value})
    assert getattr(server.orders[0].request, field) == value
    metadata = json.loads(Image.open(io.BytesIO(response.content)).info[METADATA_KEY])
    assert metadata[field] == value


@pytest.mark.parametrize(
    ("given", "terms"),
    [
        ({}, Terms("", "normal", None)),
        ({"user": None, "priority": None, "deadline_s": None}, Terms("", "normal", None)),
        ({"user": "somebody"}, Terms("somebody", "normal", None)),
        ({"user": "\N{RED APPLE}" * 256}, Terms("\N{RED APPLE}" * 256, "normal", None)),
        ({"priority": "high"}, Terms("", "high", None)),
        ({"priority": "low", "user": "a"}, Terms("a", "low", None)),
        ({"deadline_s": 1e-3}, Terms("", "normal", 1e-3)),
        ({"deadline_s": 86_400}, Terms("", "normal", 86_400.0)),
    ],
)
def test_how_a_request_shares_the_denoiser_reaches_the_order(
    server: Server, given: dict[str, Any], terms: Terms
) -> None:
    assert server.generate(prompt="a", **given).status_code == 200
    assert server.orders[0].terms == terms


@pytest.mark.parametrize(
    ("given", "kept"), [({}, False), ({"store_latents": False}, False), ({"store_latents": True}, True)]
)
def test_whether_latents_are_kept_reaches_the_order(
    server: Server, live: LiveModel, given: dict[str, Any], kept: bool
) -> None:
    assert server.generate(prompt="a", **given).status_code == 200
    assert (server.orders[0].store_latents, server.orders[0].contract) == (kept, live.contracts[Kind.DENOISER])


@pytest.mark.parametrize("deadline_s", [math.nan, math.inf, -math.inf])
def test_a_deadline_that_json_cannot_write_is_refused_by_name_too(deadline_s: float) -> None:
    with pytest.raises(FieldError, match=r"^deadline_s=.*: must be a number over 0 and at most 86400$") as caught:
        check_form(typed_body({"prompt": "a", "deadline_s": deadline_s}), "json", RequestRules())
    assert caught.value.param == "deadline_s"


@pytest.mark.parametrize(
    "inert",
    [
        {"quality": "auto"},
        {"quality": "standard"},
        {"style": None},
        {"background": "auto"},
        {"background": "opaque"},
        {"moderation": "auto"},
        {"moderation": "low"},
        {"stream": False},
        {"stream": None, "partial_images": None, "progress": None},
        {"partial_images": 0, "progress": False},
        dict.fromkeys(
            (
                "model",
                "size",
                "response_format",
                "output_format",
                "quality",
                "style",
                "background",
                "moderation",
                "user",
            ),
            "",
        ),
        {"user": "somebody"},
        {"size": "auto"},
        {"response_format": "b64_json"},
        {"output_compression": 100},
        {"seed": None, "steps": None, "guidance": None, "sampler": None, "n": None, "negative_prompt": None},
        {"weighting": None, "clip_skip": None},
        {"weighting": "", "clip_skip": 1},
        {"rng": None, "subseed": None, "subseed_strength": None},
        {"rng": "torch", "subseed": 3, "subseed_strength": 0},
        {"guidance_rescale": None, "guidance_start": None, "guidance_end": None, "adaptive_guidance": None},
        {"guidance_rescale": 0, "guidance_start": 0, "guidance_end": 1, "eta": 0},
        {"schedule": None, "eta": None, "user": None, "priority": None, "deadline_s": None},
        {"priority": "normal", "user": ""},
        {"components": None, "store_latents": None},
        {"components": {}, "store_latents": False},
    ],
)
def test_values_that_ask_for_nothing_are_taken(server: Server, inert: dict[str, Any]) -> None:
    assert server.generate(prompt="a", **inert).status_code == 200


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({}, "prompt", "required"),
        ({"prompt": ""}, "prompt", "1 to"),
        ({"prompt": "x" * 10**6}, "prompt", "1000000"),
        ({"prompt": None}, "prompt", "text"),
        ({"prompt": 5}, "prompt", "text"),
        ({"prompt": "\ud800"}, "prompt", "Unicode"),
        ({"prompt": "a\0b"}, "prompt", "NUL"),
        ({"prompt": "a", "negative_prompt": "x" * 5000}, "negative_prompt", "5000"),
        ({"prompt": "a", "n": 0}, "n", "n=0"),
        ({"prompt": "a", "n": 16384}, "n", "10"),
        ({"prompt": "a", "n": True}, "n", "whole"),
        ({"prompt": "a", "n": 1.5}, "n", "whole"),
        ({"prompt": "a", "steps": 0}, "steps", "steps=0"),
        ({"prompt": "a", "steps": 10**9}, "steps", "150"),
        ({"prompt": "a", "steps": "25"}, "steps", "whole"),
        ({"prompt": "a", "steps": 10**4000}, "steps", "150"),
        ({"prompt": "a", "guidance": -1}, "guidance", "guidance=-1"),
        ({"prompt": "a", "guidance": 1e9}, "guidance", "50"),
        ({"prompt": "a", "guidance": "high"}, "guidance", "number"),
        ({"prompt": "a", "seed": -1}, "seed", "seed=-1"),
        ({"prompt": "a", "seed": 2**80}, "seed", "between"),
        ({"prompt": "a", "sampler": "magic"}, "sampler", "ddim"),
        ({"prompt": "a", "weighting": "b1111"}, "weighting", "='b1111': must be one of a1111, compel, none"),
        ({"prompt": "a", "weighting": 1}, "weighting", "text"),
        ({"prompt": "(x:2000)", "weighting": "a1111"}, "prompt", "between -1000 and 1000"),
        ({"prompt": "a", "negative_prompt": "x.swap(y)", "weighting": "compel"}, "negative_prompt", "operator"),
        ({"prompt": "a", "clip_skip": 0}, "clip_skip", "=0: must be a whole number between 1 and 2"),
        ({"prompt": "a", "clip_skip": 3}, "clip_skip", "=3: must be a whole number between 1 and 2"),
        ({"prompt": "a", "clip_skip": "2"}, "clip_skip", "whole"),
        ({"prompt": "a", "rng": "magic"}, "rng", "philox, torch"),
        ({"prompt": "a", "rng": 1}, "rng", "text"),
        ({"prompt": "a", "subseed": -1}, "subseed", "between"),
        ({"prompt": "a", "subseed": "1"}, "subseed", "whole"),
        ({"prompt": "a", "subseed_strength": 1.5}, "subseed_strength", "between 0 and 1"),
        ({"prompt": "a", "guidance_rescale": 1.5}, "guidance_rescale", "=1.5: must be a number between 0 and 1"),
        ({"prompt": "a", "guidance_rescale": True}, "guidance_rescale", "a number"),
        ({"prompt": "a", "guidance_start": 1}, "guidance_start", "less than guidance_end, 1"),
        ({"prompt": "a", "guidance_start": -0.5}, "guidance_start", "between 0 and 1"),
        ({"prompt": "a", "guidance_end": "1"}, "guidance_end", "a number"),
        ({"prompt": "a", "guidance_end": 1.01}, "guidance_end", "between 0 and 1"),
        ({"prompt": "a", "adaptive_guidance": 0}, "adaptive_guidance", "over 0 and at most 1"),
        ({"prompt": "a", "adaptive_guidance": 2}, "adaptive_guidance", "between 0 and 1"),
        ({"prompt": "a", "eta": 1.5}, "eta", "between 0 and 1"),
        ({"prompt": "a", "eta": 1, "sampler": "euler"}, "eta", "0 or left out for euler"),
        ({"prompt": "a", "user": "x" * 257}, "user", "has 257 characters, must have at most 256"),
        ({"prompt": "a", "user": 5}, "user", "is int, must be text"),
        ({"prompt": "a", "priority": "urgent"}, "priority", "priority='urgent': must be 'high', 'normal' or 'low'"),
        ({"prompt": "a", "priority": 1}, "priority", "'high', 'normal' or 'low'"),
        ({"prompt": "a", "priority": "High"}, "priority", "'high', 'normal' or 'low'"),
        ({"prompt": "a", "deadline_s": 0}, "deadline_s", "=0.0: must be a number over 0 and at most 86400"),
        ({"prompt": "a", "deadline_s": -1}, "deadline_s", "=-1.0: must be"),
        ({"prompt": "a", "deadline_s": 86_401}, "deadline_s", "=86401.0: must be"),
        ({"prompt": "a", "deadline_s": "5"}, "deadline_s", "a number"),
        ({"prompt": "a", "deadline_s": True}, "deadline_s", "a number"),
        ({"prompt": "a", "size": "100x64"}, "size", "multiple of 16"),
        ({"prompt": "a", "size": "72x72"}, "size", "=72: must be a multiple of 16"),
        ({"prompt": "a", "size": "0x64"}, "size", "0"),
        ({"prompt": "a", "size": "-64x64"}, "size", "WIDTHxHEIGHT"),
        ({"prompt": "a", "size": "999999992x999999992"}, "size", "999999992"),
        ({"prompt": "a", "size": "64"}, "size", "WIDTHxHEIGHT"),
        ({"prompt": "a", "size": "٦٤x64"}, "size", "WIDTHxHEIGHT"),
        ({"prompt": "a", "size": 64}, "size", "text"),
        ({"prompt": "a", "response_format": "uri"}, "response_format", "'b64_json' or 'url'"),
        ({"prompt": "a", "response_format": "url", "stream": True}, "response_format", "left out with stream"),
        ({"prompt": "a", "output_format": "gif"}, "output_format", "webp"),
        ({"prompt": "a", "output_format": "webp", "output_compression": 101}, "output_compression", "101"),
        ({"prompt": "a", "output_compression": 50}, "output_compression", "png"),
        ({"prompt": "a", "quality": "best"}, "quality", "'standard', 'low'"),
        ({"prompt": "a", "style": "vivid"}, "style", "null"),
        ({"prompt": "a", "style": "natural"}, "style", "null"),
        ({"prompt": "a", "background": "transparent"}, "background", "opaque"),
        ({"prompt": "a", "moderation": "none"}, "moderation", "auto"),
        ({"prompt": "a", "stream": "yes"}, "stream", "true or false"),
        ({"prompt": "a", "partial_images": 2}, "partial_images", "=2: must be 0 or left out without stream"),
        ({"prompt": "a", "partial_images": 2, "stream": False}, "partial_images", "0 or left out without stream"),
        ({"prompt": "a", "partial_images": 4, "stream": True}, "partial_images", "between 0 and 3"),
        ({"prompt": "a", "partial_images": -1, "stream": True}, "partial_images", "between 0 and 3"),
        ({"prompt": "a", "progress": True}, "progress", "left out without stream"),
        ({"prompt": "a", "stream": True, "n": 0}, "n", "n=0"),
        ({"prompt": "a", "num_inference_steps": 3}, "num_inference_steps", "steps"),
        ({"prompt": "a", "y" * 500: 1}, "y" * 64, "no such field"),
        ({"prompt": "a", "\ud800": 1}, "?", r"'\ud800': no such field"),
        ({"prompt": "a", "x\udfff" * 100: 1}, "x?" * 32, "no such field"),
        ({"\ud800": 1}, "?", "no such field"),
        ({"prompt": "a", "output_format": "\ud800"}, "output_format", "Unicode"),
        ({"prompt": "a", "components": []}, "components", "an object"),
        ({"prompt": "a", "components": {"vae_decoder": 5}}, "components.vae_decoder", "=5: must be text"),
        ({"prompt": "a", "components": {"vae_decoder": None}}, "components.vae_decoder", "must be text"),
        (
            {"prompt": "a", "components": {"vae_decoder": "\ud800"}},
            "components.vae_decoder",
            r"='\ud800': must be NAME@ALIAS",
        ),
        ({"prompt": "a", "components": {"\ud800": "x"}}, "components", "text_encoder, denoiser, vae_decoder"),
        ({"prompt": "a", "components": {"vae_encoder": "toy.vae_encoder/1"}}, "components", "'vae_encoder': must be"),
        ({"prompt": "a", "components": dict.fromkeys(map(str, range(500)), "x")}, "components", "'0': must be"),
        ({"prompt": "a", "components": {"vae_decoder": "x" * 10**5}}, "components.vae_decoder", "100000 characters"),
        ({"prompt": "a", "components": {"denoiser": "toy.denoiser/9"}}, "components.denoiser", "not in the registry"),
        ({"prompt": "a", "store_latents": 1}, "store_latents", "true or false"),
        ({"prompt": "a", "store_latents": "yes"}, "store_latents", "true or false"),
    ],
)
def test_refused_fields_are_named_with_their_limit(server: Server, body: Any, param: str, said: str) -> None:
    error = error_of(server.generate(**body), 422)
    assert (error["param"], error["type"], error["code"]) == (param, "invalid_request_error", "invalid_value")
    assert said in error["message"]
    assert len(error["message"]) < 1500
    assert not server.orders, "it was drawn all the same"
    assert server.generate(prompt="a").status_code == 200
