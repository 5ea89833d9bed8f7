"""From a picture's story to the fields of A1111's face that make it again."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from components.contract import Kind
from components.messages import Hires
from pipeline.story.infotext import EMPHASIS_LABELS, RNG_LABELS, sampler_label, schedule_label
from pipeline.story.infotext_hires import steps_of, upscaler_label, walked_steps
from pipeline.story.infotext_reader import read_infotext
from pipeline.story.record import Story
from pipeline.story.request import request_of
from services.errors import FieldError

_FIELD = "infotext"
_LONGEST = 2**20
_LONGEST_NAME = 64
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "prompt": "prompt",
        "negative_prompt": "negative_prompt",
        "steps": "steps",
        "guidance": "cfg_scale",
        "seed": "seed",
        "subseed": "subseed",
        "subseed_strength": "subseed_strength",
        "strength": "denoising_strength",
        "eta": "eta",
    }
)


def fields_of(story: Story) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields that ask for a story's picture, and the names of what the story tells and no field here can say."""
    fields: dict[str, Any] = {}
    settings = _options_of(story)
    left = []
    for name, value in request_of(story).items():
        match name:
            case "size":
                fields["width"], fields["height"] = (int(side) for side in value.split("x"))
            case "sampler":
                fields["sampler_name"] = sampler_label(value)
            case "schedule":
                fields["scheduler"] = schedule_label(value)
            case "components":
                if Kind.VAE_DECODER in value:
                    settings["sd_vae"] = value[Kind.VAE_DECODER]
            case "hires" if _same_steps(story):
                fields |= _second_pass(story)
            case _ if name in _NAMES:
                fields[_NAMES[name]] = value
            case "rng" | "weighting" | "clip_skip":
                pass  # options, told in any case
            case _:
                left.append(name)
    return {**fields, "override_settings": settings}, tuple(left)


def _second_pass(story: Story) -> dict[str, Any]:
    hires: Hires = story.settings["hires"]
    return {
        "enable_hr": True,
        "denoising_strength": hires.strength,
        "hr_resize_x": story.settings["width"],
        "hr_resize_y": story.settings["height"],
        "hr_second_pass_steps": walked_steps(hires),
        "hr_upscaler": upscaler_label(hires.upscaler),
    }


def _same_steps(story: Story) -> bool:
    """Whether the second pass has the steps that A1111 would take to walk as many of them."""
    hires: Hires = story.settings["hires"]
    return hires.strength > 0 and steps_of(walked_steps(hires), hires.strength) == hires.steps


def _options_of(story: Story) -> dict[str, Any]:
    """The options that a story tells of, also at their defaults: a caller may have set others."""
    rng, weighting, clip_skip = (story.settings[name] for name in ("rng", "weighting", "clip_skip"))
    # who says nothing of layers took the last one
    settings: dict[str, Any] = {"CLIP_stop_at_last_layers": 1 if clip_skip is None else clip_skip}
    if rng is not None:
        settings["randn_source"] = RNG_LABELS.get(rng, rng)
    if weighting is not None:
        settings["emphasis"] = EMPHASIS_LABELS.get(weighting, weighting)
    return settings


def given_with(given: Mapping[str, Any], bundle: str) -> dict[str, Any]:
    """A body's fields, and those that its infotext says and that the body does not.

    Raises:
        FieldError: the infotext is none, or a part of it is not understood or cannot be honoured.
    """
    text = given.get(_FIELD)
    if not isinstance(text, str) or not text:
        return dict(given)
    told = read_infotext(text[: _LONGEST + 1]) if len(text) <= _LONGEST else None
    if told is None:
        raise FieldError(f"{_FIELD}: must be an infotext of at most {_LONGEST} characters", _FIELD)
    fields, left = fields_of(told.story)
    if unknown := [part.partition(":")[0] for part in told.unknown] + list(left):
        raise FieldError(f"{_FIELD}: {unknown[0][:_LONGEST_NAME]!r} cannot be honoured here; leave it out", _FIELD)
    if told.story.model not in (None, bundle):
        raise FieldError(f"{_FIELD}: Model: must be {bundle!r}, the only one that is served", _FIELD)
    said = {name: value for name, value in given.items() if value is not None}
    options = said.get("override_settings", {})
    # of another type it is refused later
    if isinstance(options, dict):
        set_here = {name: value for name, value in options.items() if value not in (None, "")}
        said["override_settings"] = {**fields["override_settings"], **set_here}
    return {**fields, **said}
