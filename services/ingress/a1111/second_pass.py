"""A1111's hires fix as a request's `hires`: the same two passes by other names."""

from typing import Any

from components.contract import Contract
from pipeline.checks import check_whole
from pipeline.errors import RequestError, refuse
from pipeline.hires import DEFAULT_STRENGTH
from pipeline.story.infotext_hires import find_upscaler, steps_of
from pipeline.upscalers import UPSCALERS
from services.ingress.a1111.schemas import Txt2ImgBody

LATENT_UPSCALERS = tuple(one.label for one in UPSCALERS.values() if one.of_latents and one.label)
PIXEL_UPSCALERS = tuple(one.label for one in UPSCALERS.values() if not one.of_latents and one.label)
_DEFAULT_UPSCALER = "Latent"
_MOST_STEPS = 10**4
_MOST_SIDE = 2**16
# with which clients ask for the first pass's own
_SAME = ("", "None", "Use same checkpoint", "Use same sampler", "Use same scheduler", "Automatic")


def hires_of(body: Txt2ImgBody, steps: int, size: tuple[int, int], denoiser: Contract) -> dict[str, Any] | None:
    """What a body asks of a second pass over a picture of that size in so many steps; None where it asks for none.

    A1111 counts the steps that are walked, where a request of ours has them walked in part.

    Raises:
        RequestError: it asks for something that the second pass has not, or a field is outside its limits.
    """
    if not body.enable_hr:
        return None
    _require_same(body)
    strength = DEFAULT_STRENGTH if body.denoising_strength is None else body.denoising_strength
    if not 0 < strength <= 1:
        raise refuse("denoising_strength", strength, "a number over 0 and at most 1")
    walked = body.hr_second_pass_steps or steps
    check_whole("hr_second_pass_steps", walked, 1, _MOST_STEPS)
    given = _DEFAULT_UPSCALER if body.hr_upscaler is None else body.hr_upscaler
    try:
        upscaler = find_upscaler(given)
    except ValueError:
        choices = ", ".join((*LATENT_UPSCALERS, "None", *PIXEL_UPSCALERS))
        raise refuse("hr_upscaler", given, f"one of {choices}") from None
    return {
        "strength": strength,
        "steps": steps_of(walked, strength),
        "upscaler": upscaler,
        **_size(body, size, denoiser),
    }


def _size(body: Txt2ImgBody, first: tuple[int, int], denoiser: Contract) -> dict[str, Any]:
    wanted = body.hr_resize_x or None, body.hr_resize_y or None
    for name, side in zip(("hr_resize_x", "hr_resize_y"), wanted, strict=True):
        if side is not None:
            check_whole(name, side, 1, _MOST_SIDE)
    if wanted == (None, None):
        return {"scale": 2.0 if body.hr_scale is None else body.hr_scale}
    width, height = wanted
    assert denoiser.latent_space is not None, "a denoiser's contract has one"
    # where the proportions are others A1111 cuts off what is over; here it would be stretched
    if width is not None and height is not None:
        off = abs(width * first[1] - height * first[0])
        if off >= denoiser.latent_space.downscale * denoiser.latent_multiple * max(first):
            raise refuse("hr_resize_y", height, f"in the proportions of {first[0]}x{first[1]} with hr_resize_x={width}")
    return {name: side for name, side in (("width", width), ("height", height)) if side is not None}


def _require_same(body: Txt2ImgBody) -> None:
    """Refuse what would have the second pass drawn by something else than the first."""
    for name, own in (
        ("hr_checkpoint_name", None),
        ("hr_sampler_name", body.sampler_name or body.sampler_index),
        ("hr_scheduler", body.scheduler),
    ):
        given = getattr(body, name)
        if given not in (None, *_SAME, own):
            raise refuse(name, given, "left out or the first pass's own: both passes are drawn alike")
    for name, own in (("hr_prompt", body.prompt), ("hr_negative_prompt", body.negative_prompt)):
        if getattr(body, name) not in (None, "", own):
            raise RequestError(name, f"{name}: must be left out or the first pass's own: both passes are drawn alike")
