"""From a story back to a request for the same picture."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from components.contract import Kind
from diffusion.noise import DEFAULT_RNG
from diffusion.samplers import SAMPLERS
from diffusion.sigma_schedules import DEFAULT
from pipeline.story.record import DEFAULTS, Story

# what takes part in a picture of a prompt
_KINDS = (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER, Kind.THIRD_TEXT_ENCODER)
# with a default that `RequestRules` may change
_SET_BY_SERVERS = ("weighting",)
# what the route takes where a field is left out, whatever the server's settings and the bundle
_LEFT_OUT: Mapping[str, Any] = MappingProxyType(
    {
        **{name: value for name, value in DEFAULTS.items() if name not in _SET_BY_SERVERS},
        "negative_prompt": "",
        "schedule": DEFAULT,
        "rng": DEFAULT_RNG,
        "subseed_strength": 0.0,
    }
)
# of the server's settings, in another form, or with a default of its own
_APART = ("prompt_chunks", "tiling", "width", "height", "eta", "hires")


def request_of(story: Story) -> dict[str, Any]:
    """The fields of `POST /v1/images/generations` that give the story's picture again, where all of it is told.

    Fields that ask for the route's own defaults are left out; those that a server or a bundle may choose never are.
    The versions are exact, NAME/VERSION. Three things no such request can ask for: where the prompt is long, the
    server's `rules.max_prompt_chunks` must be the story's `prompt_chunks`; where the picture is large, its tiles the
    story's `tiling`; and a picture made from others, of which each of `controls` is one, needs those.
    """
    settings, plain = story.settings, story.plain_settings()
    fields = {
        name: plain[name]
        for name, value in settings.items()
        if name not in _APART and value is not None and value != _LEFT_OUT.get(name)
    }
    width, height, hires = (settings[name] for name in ("width", "height", "hires"))
    if width is not None and height is not None:
        first = (width, height) if hires is None else (hires.first_width, hires.first_height)
        fields["size"] = f"{first[0]}x{first[1]}"
    if hires is not None:
        said = {name: getattr(hires, name) for name in ("strength", "steps", "upscaler")}
        fields["hires"] = {"width": width, "height": height, **said}
    eta, row = settings["eta"], SAMPLERS.get(settings["sampler"])
    if eta is not None and (row is None or eta != row.eta):
        fields["eta"] = eta
    components = {kind.value: str(story.components[kind]) for kind in _KINDS if kind in story.components}
    return {**fields, "components": components} if components else fields
