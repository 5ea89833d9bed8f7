"""What A1111's face answers with pictures."""

import base64
import json
from collections.abc import Mapping, Sequence
from time import time
from typing import Any

from pydantic import BaseModel, Field

from components.contract import Kind
from components.reference import ComponentRef
from pipeline.story.containers import read_texts
from pipeline.story.infotext import sampler_label, schedule_label
from pipeline.story.infotext_hires import hires_parameters
from pipeline.story.record import Story
from services.ingress.a1111.following import timestamp
from services.ingress.a1111.schemas import DrawingBody, Img2ImgBody
from services.messages import Order, Picture

_HASH_DIGITS = 10
_NO_SUBSEED = -1


class DrawnAnswer(BaseModel):
    """Pictures, and what made them."""

    images: list[str] = Field(description="PNG files in base64; none with send_images false")
    parameters: dict[str, Any] = Field(description="the request")
    info: str = Field(description="JSON: seeds, prompts, infotexts and versions")


def info_of(order: Order, pictures: Sequence[Picture], batch_size: int, model: str) -> str:
    """The JSON that tells what made pictures; those that were broken off are not in it."""
    request, count = order.request, len(pictures)
    first, hires = request.passes[0], request.hires
    subseeds = [_NO_SUBSEED if one.subseed is None else one.subseed for one in pictures]
    decoder = order.pins[Kind.VAE_DECODER]
    told: Mapping[str, Any] = {
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * count,
        "negative_prompt": request.negative_prompt,
        "all_negative_prompts": [request.negative_prompt] * count,
        "seed": request.seed,
        "all_seeds": [one.seed for one in pictures],
        "subseed": _NO_SUBSEED if request.subseed is None else request.subseed,
        "all_subseeds": subseeds,
        "subseed_strength": request.subseed_strength,
        "width": first.width,
        "height": first.height,
        "sampler_name": sampler_label(request.sampler),
        "cfg_scale": request.guidance,
        "steps": request.steps,
        "batch_size": batch_size,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": model,
        "sd_model_hash": _short(order.pins[Kind.DENOISER]),
        "sd_vae_name": str(decoder),
        "sd_vae_hash": _short(decoder),
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": hires.strength if hires else None if order.source is None else request.strength,
        "extra_generation_params": {"Schedule type": schedule_label(request.schedule), **_second_pass(order)},
        "index_of_first_image": 0,
        "infotexts": [read_texts(one.data).infotext or "" for one in pictures],
        "styles": [],
        "job_timestamp": timestamp(time()),
        "clip_skip": request.clip_skip,
        "is_using_inpainting_conditioning": False,
        "version": "latentworks",
    }
    return json.dumps(told)


def _second_pass(order: Order) -> dict[str, str]:
    told = Story.of(order.request, order.pins)
    return {name: value for name, value in hires_parameters(told.settings) if name.startswith("Hires")}


def parameters_of(body: DrawingBody, given: Mapping[str, Any]) -> dict[str, Any]:
    """A request as the answer repeats it: what was given, and the defaults of the rest; perhaps without pictures."""
    told = {**body.model_dump(), **given}
    if isinstance(body, Img2ImgBody) and not body.include_init_images:
        told |= {"init_images": None, "mask": None}
    return told


def encoded(files: Sequence[bytes]) -> list[str]:
    """Files in base64."""
    return [base64.b64encode(one).decode() for one in files]


def _short(ref: ComponentRef) -> str:
    return ref.sha256[:_HASH_DIGITS]
