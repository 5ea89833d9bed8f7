"""From a body of A1111's face to the one that every face's orders are made of, and back where a field is refused."""

from collections.abc import Mapping
from types import MappingProxyType

from components.contract import Contract
from diffusion.errors import UnknownNameError
from diffusion.samplers import SAMPLERS
from diffusion.samplers.aliases import find_choice
from pipeline.checks import check_whole
from pipeline.errors import RequestError, refuse
from services.errors import FieldError
from services.ingress.a1111.errors import SamplerNotFoundError
from services.ingress.a1111.options import Settings
from services.ingress.a1111.schemas import DrawingBody, Img2ImgBody, Txt2ImgBody
from services.ingress.a1111.second_pass import hires_of
from services.ingress.wire.requests import EditBody, HiresBody

_DEFAULT_SAMPLER = "Euler"
_MOST_BATCHES = 1000
_DEFAULT_IMAGE_CFG = 1.5
_FRESH = -1
# by our names, those that A1111 has; width and height have the same
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "n": "batch_size * n_iter",
        "guidance": "cfg_scale",
        "strength": "denoising_strength",
        "image_guidance": "image_cfg_scale",
        "sampler": "sampler_name",
        "schedule": "scheduler",
        "rng": "randn_source",
        "weighting": "emphasis",
        "clip_skip": "CLIP_stop_at_last_layers",
        "image": "init_images",
        "components": "sd_vae",
        "components.vae_decoder": "sd_vae",
        "hires.scale": "hr_scale",
        "hires.width": "hr_resize_x",
        "hires.height": "hr_resize_y",
        "hires.size": "hr_scale",
        "hires.strength": "denoising_strength",
        "hires.steps": "hr_second_pass_steps",
        "hires.upscaler": "hr_upscaler",
    }
)


def generation_of(body: DrawingBody, settings: Settings, denoiser: Contract) -> EditBody:
    """What a body asks for, as every face's orders have it; `denoiser` is the live one's contract.

    Raises:
        FieldError: a field has a value outside its limits.
        SamplerNotFoundError: there is no such sampler.
    """
    sampler = _sampler(body, denoiser)
    try:
        batch_size = batch_size_of(body)
        batches = batches_of(body)
        eta = _eta(sampler, body.eta)
    except RequestError as error:
        raise FieldError(error.message, error.field) from None
    steps = 50 if body.steps is None else body.steps
    try:
        hires = hires_of(body, steps, _sides(body, denoiser), denoiser) if isinstance(body, Txt2ImgBody) else None
    except RequestError as error:
        raise FieldError(error.message, error.field) from None
    return EditBody(
        prompt=body.prompt or "",
        negative_prompt=body.negative_prompt,
        n=batch_size * batches,
        size="{}x{}".format(*_sides(body, denoiser)),
        seed=_seed(body.seed),
        subseed=_seed(body.subseed),
        subseed_strength=body.subseed_strength,
        steps=steps,
        guidance=7.0 if body.cfg_scale is None else body.cfg_scale,
        sampler=sampler,
        schedule=body.scheduler or None,
        eta=eta,
        rng=settings.rng,
        weighting=settings.weighting,
        clip_skip=settings.clip_skip,
        components=settings.components,
        image_guidance=_image_guidance(body, denoiser) if isinstance(body, Img2ImgBody) else None,
        hires=None if hires is None else HiresBody(**hires),
        strength=strength_of(body) if isinstance(body, Img2ImgBody) else None,
    )


def batch_size_of(body: DrawingBody) -> int:
    """How many pictures a body wants drawn together; raises RequestError."""
    return _count("batch_size", body.batch_size)


def batches_of(body: DrawingBody) -> int:
    """How many batches a body wants; raises RequestError."""
    return _count("n_iter", body.n_iter)


def strength_of(body: Img2ImgBody) -> float:
    """How far a body goes from its picture."""
    return 0.75 if body.denoising_strength is None else body.denoising_strength


def renamed(error: FieldError) -> FieldError:
    """An error of our field as one of A1111's."""
    ours = error.param
    if ours is None or ours not in _NAMES:
        return error
    theirs = _NAMES[ours]
    told = error.message.removeprefix(ours) if error.message.startswith(ours) else f": {error.message}"
    return FieldError(f"{theirs}{told}", theirs)


def _image_guidance(body: Img2ImgBody, denoiser: Contract) -> float | None:
    # which clients send to every checkpoint
    asks_for_nothing = denoiser.image_guidance is None and body.image_cfg_scale == _DEFAULT_IMAGE_CFG
    return None if asks_for_nothing else body.image_cfg_scale


def _sampler(body: DrawingBody, denoiser: Contract) -> str | None:
    given = body.sampler_name or body.sampler_index
    if not given:
        # a flow has none of A1111's samplers
        return None if denoiser.flow_schedule is not None else _DEFAULT_SAMPLER
    try:
        find_choice(given)
    except UnknownNameError as unknown:
        named = "sampler_name" if body.sampler_name else "sampler_index"
        raise SamplerNotFoundError(refuse(named, given, unknown.limit).message, named) from None
    return given


def _eta(sampler: str | None, eta: float | None) -> float | None:
    """A body's eta as orders have it: A1111 has one for every sampler, 1 of which is the whole noise of its own.

    Raises:
        RequestError: this sampler has no share of noise to choose.
    """
    if eta is None or sampler is None:
        return eta
    row = SAMPLERS[find_choice(sampler).sampler]
    if row.takes_eta:
        return eta
    if eta == 1 or (eta == 0 and not row.draws):
        return None
    raise refuse("eta", eta, f"{'1' if row.draws else '0, 1'} or left out for {sampler}")


def _sides(body: DrawingBody, denoiser: Contract) -> tuple[int, int]:
    space, latent_size = denoiser.latent_space, denoiser.latent_size
    assert space is not None, "a denoiser's contract has one"
    assert latent_size is not None, "a denoiser's contract has one"
    own_height, own_width = (side * space.downscale for side in latent_size)
    width = own_width if body.width is None else body.width
    height = own_height if body.height is None else body.height
    for name, side in (("width", width), ("height", height)):
        # of another sign it would be no size at all
        if not 0 < side < 10**9:
            raise FieldError(refuse(name, side, "a number of pixels").message, name)
    return width, height


def _seed(given: int | None) -> int | None:
    return None if given == _FRESH else given


def _count(name: str, given: int | None) -> int:
    count = 1 if given is None else given
    check_whole(name, count, 1, _MOST_BATCHES)
    return count
