"""Image to image and inpainting with the bundled model, against diffusers' pipelines on its checkpoint and seed."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image, ImageDraw

from pipeline.image_to_image import EditOptions, ImageToImage
from runtime.settings import SessionSettings
from tests.differences import Measured

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "models" / "emoji"
SIDE = 128
SEED = 42
PROMPT = "a red apple, 3d style"
# another draw of noise makes 0.9 of a masked picture, and rounding at most 0.07
MOST_OFF = 0.3
# torch, diffusers and transformers warn of packages that are not there and of their own deprecations
pytestmark = pytest.mark.filterwarnings("ignore")

SCHEDULERS = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "heun": HeunDiscreteScheduler,
    "lcm": LCMScheduler,
    "dpm2": KDPM2DiscreteScheduler,
    "lms": LMSDiscreteScheduler,
    "deis": DEISMultistepScheduler,
    "pndm": PNDMScheduler,
}


@pytest.fixture(scope="module")
def chain() -> ImageToImage:
    return ImageToImage.load(BUNDLE, SessionSettings(provider="cpu"))


@pytest.fixture(scope="module")
def pipes() -> dict[bool, Any]:
    """By whether there is a mask."""
    checkpoint = BUNDLE / "checkpoint"
    return {
        False: StableDiffusionImg2ImgPipeline.from_pretrained(checkpoint),
        True: StableDiffusionInpaintPipeline.from_pretrained(checkpoint),
    }


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    with Image.open(ROOT / "docs" / "apple.png") as image:
        return image.convert("RGB").resize((SIDE, SIDE)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def disc(size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse((size[0] * 0.2, size[1] * 0.3, size[0] * 0.7, size[1] * 0.9), fill=255)
    return mask


def half() -> Image.Image:
    mask = Image.new("RGB", (SIDE, SIDE))
    mask.paste("white", (0, 0, SIDE // 2 + 3, SIDE))
    return mask


def ramp() -> Image.Image:
    return Image.linear_gradient("L").resize((SIDE, SIDE))


def theirs(pipe: Any, sampler: str, picture: Image.Image, mask: Image.Image | None, **options: Any) -> npt.NDArray[Any]:
    pipe.set_progress_bar_config(disable=True)
    config = DDIMScheduler.load_config(BUNDLE / "checkpoint" / "scheduler")
    # the one default of diffusers that is not ours
    pipe.scheduler = SCHEDULERS[sampler].from_config({"skip_prk_steps": True, **config})
    masked = {} if mask is None else {"mask_image": mask, "height": SIDE, "width": SIDE}
    generator = torch.Generator("cpu").manual_seed(SEED)
    drawn = pipe(PROMPT, picture, generator=generator, output_type="np", **masked, **options).images[0]
    made: npt.NDArray[Any] = drawn
    return made


def difference(
    measured: Measured,
    chain: ImageToImage,
    pipes: dict[bool, Any],
    picture: Image.Image,
    mask: Image.Image | None,
    options: EditOptions,
) -> float:
    """The mean absolute difference of the two pictures, of 255."""
    extra = {"eta": options["eta"]} if "eta" in options else {}
    expected = theirs(
        pipes[mask is not None],
        options["sampler"],
        picture,
        mask,
        strength=options["strength"],
        num_inference_steps=options["steps"],
        guidance_scale=2.0,
        **extra,
    )
    ours = chain.generate(PROMPT, picture, mask, **cast(EditOptions, {**options, "guidance": 2.0, "seed": SEED}))
    return noted(measured, pipes[mask is not None], mask, ours, expected)


def noted(
    measured: Measured, pipe: Any, mask: Image.Image | None, ours: Image.Image, expected: npt.NDArray[Any]
) -> float:
    task, model = ("image_to_image", "emoji") if mask is None else ("inpainting", "emoji, blending")
    return measured.note(task, model, type(pipe).__name__, ours, expected)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_a_seed_of_diffusers_gives_its_edit(
    measured: Measured, chain: ImageToImage, pipes: dict[bool, Any], picture: Image.Image, masked: bool
) -> None:
    options = EditOptions(sampler="euler_ancestral", strength=0.75, steps=4)
    assert difference(measured, chain, pipes, picture, disc() if masked else None, options) <= MOST_OFF


@pytest.mark.parametrize(("blur", "padding"), [(6, 8), (0, 0), (9, None)], ids=str)
def test_blur_and_crop_are_those_of_diffusers(
    measured: Measured,
    chain: ImageToImage,
    pipes: dict[bool, Any],
    picture: Image.Image,
    blur: int,
    padding: int | None,
) -> None:
    pipe, size = pipes[True], (150, 110)
    image, mask = picture.resize(size), disc((60, 50))
    placed = Image.new("L", size)
    placed.paste(mask, (70, 30))
    options: dict[str, Any] = {"strength": 0.75, "steps": 4, "guidance": 2.0, "sampler": "euler", "seed": SEED}
    pipe.scheduler = EulerDiscreteScheduler.from_config(DDIMScheduler.load_config(BUNDLE / "checkpoint" / "scheduler"))
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        PROMPT,
        image,
        mask_image=pipe.mask_processor.blur(placed, blur),
        height=SIDE,
        width=SIDE,
        padding_mask_crop=padding,
        strength=0.75,
        num_inference_steps=4,
        guidance_scale=2.0,
        generator=torch.Generator("cpu").manual_seed(SEED),
    ).images[0]
    options |= {"mask_blur": blur, "width": SIDE, "height": SIDE}
    options |= {} if padding is None else {"padding_mask_crop": padding}
    ours = chain.generate(PROMPT, image, placed, **cast(EditOptions, options))
    # a crop is laid back into the picture, which keeps its size
    assert ours.size == ((SIDE, SIDE) if padding is None else size)
    theirs = np.asarray(expected, np.float64) / 255
    assert measured.note("inpainting", "emoji, blending", type(pipe).__name__, ours, theirs) <= MOST_OFF


@pytest.mark.slow
@pytest.mark.parametrize("mask", [None, disc()], ids=["whole", "disc"])
@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_every_sampler_edits_as_diffusers_does(
    measured: Measured,
    chain: ImageToImage,
    pipes: dict[bool, Any],
    picture: Image.Image,
    mask: Image.Image | None,
    strength: float,
    sampler: str,
) -> None:
    options = EditOptions(sampler=sampler, strength=strength, steps=12)
    assert difference(measured, chain, pipes, picture, mask, options) <= MOST_OFF


@pytest.mark.slow
@pytest.mark.parametrize("mask", [half(), ramp()], ids=["half", "ramp"])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_every_mask_is_read_as_diffusers_does(
    measured: Measured,
    chain: ImageToImage,
    pipes: dict[bool, Any],
    picture: Image.Image,
    mask: Image.Image,
    strength: float,
) -> None:
    options = EditOptions(sampler="dpmpp_2m", strength=strength, steps=12)
    assert difference(measured, chain, pipes, picture, mask, options) <= MOST_OFF


@pytest.mark.slow
@pytest.mark.parametrize("mask", [None, disc()], ids=["whole", "disc"])
def test_fresh_noise_comes_in_the_order_of_diffusers(
    measured: Measured, chain: ImageToImage, pipes: dict[bool, Any], picture: Image.Image, mask: Image.Image | None
) -> None:
    options = EditOptions(sampler="ddim", strength=0.75, steps=20, eta=1.0)
    assert difference(measured, chain, pipes, picture, mask, options) <= MOST_OFF


@pytest.mark.slow
def test_picture_and_mask_of_other_sizes_are_resized_as_diffusers_does(
    measured: Measured, chain: ImageToImage, pipes: dict[bool, Any], picture: Image.Image
) -> None:
    options = EditOptions(sampler="dpmpp_2m", strength=0.75, steps=20, width=128, height=128)
    assert difference(measured, chain, pipes, picture.resize((300, 200)), disc((77, 190)), options) <= MOST_OFF


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_strength_is_by_default_what_it_is_there(
    measured: Measured, chain: ImageToImage, pipes: dict[bool, Any], picture: Image.Image, masked: bool
) -> None:
    mask = disc() if masked else None
    expected = theirs(pipes[masked], "ddim", picture, mask, num_inference_steps=10, guidance_scale=2.0)
    ours = chain.generate(PROMPT, picture, mask, guidance=2.0, seed=SEED, sampler="ddim", steps=10)
    # the inpainting pipeline's default is 1 and not the 0.8 of the other
    assert noted(measured, pipes[masked], mask, ours, expected) <= MOST_OFF
