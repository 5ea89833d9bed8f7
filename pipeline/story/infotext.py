"""A story as A1111 writes it below its pictures: the infotext, which A1111, Civitai and ComfyUI's readers show."""

import json
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from components.contract import Kind
from diffusion.samplers import SAMPLERS
from diffusion.samplers.aliases import SAMPLER_NAMES, SCHEDULE_NAMES
from pipeline.prompts.a1111 import parse
from pipeline.prompts.fragments import Fragment
from pipeline.story.infotext_hires import hires_parameters
from pipeline.story.record import DEFAULTS, TEXTS, Story

NEGATIVE = "Negative prompt:"
# Of settings that a number tells. The last four are ours: A1111 has no such settings, and shows them as they are.
LABELS: Mapping[str, str] = MappingProxyType(
    {
        "steps": "Steps",
        "guidance": "CFG scale",
        "seed": "Seed",
        "subseed": "Variation seed",
        "subseed_strength": "Variation seed strength",
        "strength": "Denoising strength",
        "image_guidance": "Image CFG scale",
        "noise_level": "Noise level",
        "clip_skip": "Clip skip",
        "mask_blur": "Mask blur",
        "padding_mask_crop": "Masked area padding",
        "guidance_rescale": "Guidance rescale",
        "guidance_start": "Guidance start",
        "guidance_end": "Guidance end",
        "adaptive_guidance": "Adaptive guidance",
    }
)
# they come before the components, and whatever their value is
_FIRST = ("Steps", "CFG scale", "Seed")
# A1111's sources of noise: torch's on a CPU, and torch's on CUDA computed on a CPU
RNG_LABELS: Mapping[str, str] = MappingProxyType({"torch": "CPU", "philox": "NV"})
# A1111's emphasis, beside which we have Compel's
EMPHASIS_LABELS: Mapping[str, str] = MappingProxyType({"none": "None", "a1111": "Original", "compel": "Compel"})
_HASH_DIGITS = 10


def infotext(story: Story) -> str:
    """The prompt, the negative prompt where there is one, and a line of `name: value` with commas between.

    What is not told, and what asks for nothing beyond the default, is left out. As in A1111 a value that holds a comma,
    a colon or a line break is written as JSON. A prompt may hold lines like those that follow it; then only our JSON
    tells them apart.
    """
    prompt, negative = story.settings["prompt"], story.settings["negative_prompt"]
    lines = [] if prompt is None else [prompt]
    if negative:
        lines.append(f"{NEGATIVE} {negative}")
    said = ", ".join(f"{name}: {_quoted(value)}" for name, value in _parameters(story))
    return "\n".join([*lines, said])


def sampler_label(sampler: str) -> str:
    """A1111's name of a sampler; our own where it has none."""
    names = (name for name in SAMPLER_NAMES.get(sampler, ()) if not name.endswith("Scheduler"))
    return next(names, sampler)


def schedule_label(schedule: str) -> str:
    """A1111's name of a sigma schedule."""
    return SCHEDULE_NAMES.get(schedule, (schedule,))[0]


def _parameters(story: Story) -> Iterator[tuple[str, str]]:
    settings = story.settings
    for name, value in (
        ("Steps", _number(settings["steps"])),
        ("Sampler", _label(settings["sampler"], sampler_label)),
        ("Schedule type", _label(settings["schedule"], schedule_label)),
        ("CFG scale", _number(settings["guidance"])),
        ("Seed", _number(settings["seed"])),
        ("Size", _size(*_first_size(settings))),
    ):
        if value is not None:
            yield name, value
    yield from _components(story)
    for setting, label in LABELS.items():
        value = _number(settings.get(setting))
        if value is not None and label not in _FIRST and _does_something(setting, story):
            yield label, value
    yield from hires_parameters(settings)
    if (rng := settings["rng"]) is not None:
        yield "RNG", RNG_LABELS.get(rng, rng)
    yield from _emphasis(story)
    yield from _eta(settings["sampler"], settings["eta"])
    yield "Version", f"latentworks {story.format}"


def _components(story: Story) -> Iterator[tuple[str, str]]:
    denoiser, decoder = story.components.get(Kind.DENOISER), story.components.get(Kind.VAE_DECODER)
    if denoiser is not None:
        yield "Model hash", denoiser.sha256[:_HASH_DIGITS]
    if story.model is not None:
        yield "Model", story.model
    if decoder is not None:
        yield "VAE hash", decoder.sha256[:_HASH_DIGITS]
        yield "VAE", str(decoder)


def _does_something(setting: str, story: Story) -> bool:
    if setting.startswith("subseed"):
        return story.settings["subseed"] is not None
    return bool(story.settings[setting] != DEFAULTS.get(setting))


def _emphasis(story: Story) -> Iterator[tuple[str, str]]:
    weighting = story.settings["weighting"]
    if weighting is None:
        return
    # to A1111 signs weigh where nothing is said
    texts = [story.settings[name] for name in TEXTS]
    if weighting != "none" or any(text and _has_signs(text) for text in texts):
        yield "Emphasis", EMPHASIS_LABELS.get(weighting, weighting)


def _has_signs(text: str) -> bool:
    return parse(text) != ((Fragment(text, 1.0),),)


def _eta(sampler: str | None, eta: float | None) -> Iterator[tuple[str, str]]:
    own = SAMPLERS[sampler].eta if sampler is not None and sampler in SAMPLERS else None
    said = _number(eta)
    if said is not None and eta != own:
        yield "Eta DDIM" if sampler == "ddim" else "Eta", said


def _label(name: str | None, label: Callable[[str], str]) -> str | None:
    return None if name is None else label(name)


def _number(value: float | None) -> str | None:
    return None if value is None else repr(value).removesuffix(".0")


def _first_size(settings: Mapping[str, Any]) -> tuple[int | None, int | None]:
    # as A1111 has it: that of the first pass where there are two
    hires = settings["hires"]
    return (settings["width"], settings["height"]) if hires is None else (hires.first_width, hires.first_height)


def _size(width: int | None, height: int | None) -> str | None:
    return None if width is None or height is None else f"{width}x{height}"


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ",:\n") else value
