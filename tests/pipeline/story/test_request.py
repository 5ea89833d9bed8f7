"""From a story to a request: checked as a server checks it, it is the request that made the picture."""

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from components.contract import Conditioning, Contract, Kind, LatentSpace, NoiseSchedule, TensorSpec
from components.messages import Hires, LoraChoice, PhraseBox
from diffusion.noise import SOURCES
from diffusion.samplers import SAMPLERS
from pipeline.errors import RequestError
from pipeline.prompts.weighting import WEIGHTINGS
from pipeline.request import RequestFields, RequestRules, check_request
from pipeline.story.infotext_reader import read_infotext
from pipeline.story.record import Story
from pipeline.story.request import request_of
from tests.pipeline.story.stories import PINS, prompts, story
from tests.requests import image_request

LATENT = ("batch", 4, "height", "width")
CONTRACT = Contract(
    kind=Kind.DENOISER,
    inputs=(
        TensorSpec(name="latents", dtype="float32", shape=LATENT),
        TensorSpec(name="timestep", dtype="float32", shape=("batch",)),
        TensorSpec(name="text", dtype="float32", shape=("batch", "tokens", 6)),
    ),
    outputs=(TensorSpec(name="prediction", dtype="float32", shape=LATENT),),
    latent_space=LatentSpace(id="toy", channels=4, downscale=8, scaling_factor=0.5),
    conditioning=(Conditioning(name="text", width=6, tokens=8),),
    noise_schedule=NoiseSchedule(
        prediction_type="epsilon",
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
    ),
    latent_size=(8, 8),
)
# another server than the one that made the picture
ELSEWHERE = RequestRules(default_steps=7, default_guidance=3.5, default_sampler="lms", default_weighting="a1111")
WALKED = [row for row in SAMPLERS.values() if not row.flow]


def fields_of(request: dict[str, Any]) -> RequestFields:
    """As services/ingress/orders/fields.py reads a body."""
    given = {name: value for name, value in request.items() if name not in ("components", "size")}
    width, height = (int(side) for side in request["size"].split("x"))
    return RequestFields(**given, width=width, height=height)


@given(st.data())
def test_it_is_the_request_that_made_the_picture(data: st.DataObject) -> None:
    draw = data.draw
    row = draw(st.sampled_from(WALKED))
    shares = st.floats(0, 1)
    strength = draw(shares)
    start, end = draw(shares), draw(shares)
    assume(start < end)
    asked = RequestFields(
        prompt=draw(prompts),
        negative_prompt=draw(prompts | st.just("")),
        weighting=draw(st.sampled_from(list(WEIGHTINGS))),
        clip_skip=draw(st.integers(1, 12)),
        steps=draw(st.integers(10, 30)),
        guidance=draw(st.floats(0, 50)),
        guidance_rescale=draw(shares),
        guidance_start=start,
        guidance_end=end,
        adaptive_guidance=draw(st.none() | st.floats(0.5, 1)),
        sampler=row.name,
        schedule=draw(st.sampled_from(row.sigma_schedules)),
        eta=draw(shares) if row.takes_eta else None,
        rng=draw(st.sampled_from(sorted(SOURCES))),
        seed=draw(st.integers(0, 2**63 - 1)),
        subseed=draw(st.integers(0, 2**63 - 1)),
        subseed_strength=strength,
        width=draw(st.sampled_from([64, 128])),
        height=64,
    )
    try:
        made = check_request(asked, CONTRACT, RequestRules(), 12)
    except RequestError:
        # a few prompts of any signs are none by their grammar
        reject()
    request = request_of(Story.of(made, PINS))
    assert json.loads(json.dumps(request)) == request
    assert check_request(fields_of(request), CONTRACT, ELSEWHERE, 12) == made


def test_what_is_the_default_is_left_out() -> None:
    assert request_of(story(prompt="a")) == {
        "prompt": "a",
        "weighting": "none",
        "steps": 3,
        "guidance": 2.0,
        "sampler": "ddim",
        "seed": 5,
        "size": "64x64",
        "components": {
            "text_encoder": "toy.text_encoder/3",
            "denoiser": "toy.denoiser/4",
            "vae_decoder": "toy.vae_decoder/5",
        },
    }
    assert "eta" not in request_of(story(sampler="tcd", eta=SAMPLERS["tcd"].eta))
    assert request_of(story(sampler="tcd", eta=0.0))["eta"] == 0.0, "it is a request's default, not this sampler's"
    assert request_of(story(guidance=0.0))["guidance"] == 0.0
    assert request_of(story(seed=0))["seed"] == 0


def test_what_is_not_told_is_not_asked_for() -> None:
    assert request_of(Story(settings={})) == {}
    assert "prompt" not in request_of(story().without_texts())
    assert "size" not in request_of(Story(settings={"width": 64}))
    assert request_of(Story(settings={"sampler": "a newer one", "eta": 0.0})) == {"sampler": "a newer one", "eta": 0.0}


def test_the_fallback_that_made_the_picture_is_asked_for() -> None:
    other = PINS[Kind.VAE_DECODER].model_copy(update={"version": 9})
    told = Story.of(image_request(), {**PINS, Kind.VAE_DECODER: other}, PINS[Kind.VAE_DECODER])
    assert request_of(told)["components"]["vae_decoder"] == "toy.vae_decoder/9"


def test_two_passes_are_asked_for_as_they_were_drawn() -> None:
    asked = RequestFields(prompt="a", width=64, height=72, steps=9, hires={"scale": 1.5, "upscaler": "lanczos"})
    made = check_request(asked, CONTRACT, RequestRules(max_whole_pixels=64 * 72, tile_side=64))
    request = request_of(Story.of(made, PINS))
    assert (request["size"], request["hires"]["width"], request["hires"]["height"]) == ("64x72", 96, 104)
    assert json.loads(json.dumps(request)) == request
    assert check_request(fields_of(request), CONTRACT, RequestRules(max_whole_pixels=64 * 72, tile_side=64)) == made


def test_another_programs_picture_can_be_asked_for() -> None:
    told = read_infotext(
        "a fox\nNegative prompt: b\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 5, Size: 512x256, "
        "Model: sd, Clip skip: 2"
    )
    assert told is not None
    request = request_of(told.story)
    assert request == {
        "prompt": "a fox",
        "negative_prompt": "b",
        "weighting": "a1111",
        "clip_skip": 2,
        "steps": 20,
        "guidance": 7.0,
        "sampler": "dpmpp_2m",
        "schedule": "karras",
        "rng": "philox",
        "seed": 5,
        "size": "512x256",
    }
    made = check_request(fields_of(request), CONTRACT, RequestRules(), 2)
    assert (made.sampler, made.schedule, made.width, made.height) == ("dpmpp_2m", "karras", 512, 256)


@pytest.mark.parametrize(
    "name",
    sorted({field.name for field in fields(RequestFields)} - {"n", "image", "mask", "depth", "image_prompts"}),
)
def test_every_field_of_a_request_can_be_asked_for(name: str) -> None:
    """A new field of a request must find its way into stories and back."""
    told = story(
        prompt="p",
        negative_prompt="q",
        weighting="compel",
        clip_skip=2,
        strength=0.5,
        mask_blur=2.5,
        padding_mask_crop=8,
        image_guidance=1.25,
        skip_layers=(7, 8),
        skip_layer_guidance=2.5,
        skip_layer_guidance_start=0.05,
        skip_layer_guidance_end=0.25,
        noise_level=7,
        guidance_rescale=0.5,
        guidance_start=0.1,
        guidance_end=0.9,
        adaptive_guidance=0.99,
        schedule="karras",
        sampler="tcd",
        eta=0.75,
        rng="philox",
        subseed=3,
        subseed_strength=0.5,
        original_height=900,
        original_width=700,
        target_height=640,
        target_width=480,
        crop_top=3,
        crop_left=5,
        aesthetic_score=7.0,
        negative_aesthetic_score=1.0,
        hires=Hires(first_width=32, first_height=48, upscaler="lanczos", strength=0.5, steps=7),
        boxes=(PhraseBox("a fox", (0.0, 0.25, 0.5, 1.0)),),
        boxes_end=1.0,
        loras=(LoraChoice("emoji.lora.style/1", 0.5),),
        image_prompt_scale=0.25,
    )
    request = request_of(told)
    assert name in request or (name in ("width", "height") and request["size"] == "32x48")
