"""ControlNets and adapters for SDXL: whole tasks against the pipelines of diffusers, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionXLAdapterPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)
from PIL import Image

from components.compatibility import compatible
from components.contract import Kind
from components.folder import ComponentFolder
from exporters.adapter import export_adapter
from exporters.adapter_network import adapter as adapter_of
from exporters.alone import AloneOptions
from exporters.controlnet import export_controlnet
from exporters.controlnet_network import controlnet as controlnet_of
from exporters.errors import ExportError
from pipeline.adapter import Adapter
from pipeline.controlnet import ControlNet
from pipeline.controls import ControlBy
from pipeline.image_to_image import ImageToImage
from pipeline.text_to_image import TextToImage
from runtime.settings import SessionSettings
from tests.differences import MOST_OFF, Measured
from tests.exporters.controls import tiny_adapter, tiny_controlnet, tiny_xl_adapter

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CPU = SessionSettings(provider="cpu")
PROMPT, MODEL = "a red caf\u00e9!! red", "tiny SDXL"
WIDTH, HEIGHT, STEPS, GUIDANCE = 32, 40, 6, 4.0
NOISE = torch.randn(1, 4, HEIGHT // 2, WIDTH // 2, generator=torch.Generator().manual_seed(5))
# in float32, as the checkpoint is exported
OPTIONS = AloneOptions(weights="float32")


@pytest.fixture(scope="module")
def unet(sdxl_checkpoints: dict[str, Path]) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(sdxl_checkpoints["base"] / "unet")


@pytest.fixture(scope="module")
def parts(sdxl_checkpoints: dict[str, Path]) -> dict[str, Any]:
    """What every pipeline of diffusers takes of the checkpoint."""
    return dict(StableDiffusionXLPipeline.from_pretrained(sdxl_checkpoints["base"], add_watermarker=False).components)


@pytest.fixture(scope="module")
def net(unet: UNet2DConditionModel) -> ControlNetModel:
    return tiny_controlnet(unet, seed=1)


@pytest.fixture(scope="module")
def controlnet(
    net: ControlNetModel, sdxl_bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> ControlNet:
    folder = tmp_path_factory.mktemp("sdxl-controlnet")
    net.save_pretrained(folder / "edges")
    denoiser = sdxl_bundles["base"] / Kind.DENOISER
    return ControlNet(export_controlnet(folder / "edges", denoiser, folder / "out", OPTIONS), CPU)


@pytest.fixture(scope="module")
def adapting(unet: UNet2DConditionModel) -> T2IAdapter:
    return tiny_xl_adapter(unet, seed=2)


@pytest.fixture(scope="module")
def adapter(adapting: T2IAdapter, sdxl_bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    folder = tmp_path_factory.mktemp("sdxl-adapter")
    adapting.save_pretrained(folder / "edges")
    denoiser = sdxl_bundles["base"] / Kind.DENOISER
    return Adapter(export_adapter(folder / "edges", denoiser, folder / "out", OPTIONS), CPU)


@pytest.fixture(scope="module")
def from_noise(sdxl_bundles: dict[str, Path]) -> TextToImage:
    return TextToImage.load(sdxl_bundles["base"], CPU)


def picture(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.NEAREST)


def drawn(pipe: Any, **options: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        height=HEIGHT,
        width=WIDTH,
        output_type="np",
        **options,
    ).images[0]


def assert_it_holds(held: Image.Image, plain: Image.Image) -> None:
    assert np.abs(np.asarray(held).astype(float) - np.asarray(plain)).mean() > 1, "it makes no difference"


def test_a_controlnet_is_told_what_the_denoiser_is_told(controlnet: ControlNet, sdxl_bundles: dict[str, Path]) -> None:
    contracts = {
        name: ComponentFolder.open(path / Kind.DENOISER).manifest.contract for name, path in sdxl_bundles.items()
    }
    assert controlnet.contract.time_ids == contracts["base"].time_ids
    assert compatible(controlnet.contract, contracts["base"]) == []
    mismatches = compatible(controlnet.contract, contracts["refiner"])
    assert any(mismatch.startswith("time_ids: controlnet has original_height, ") for mismatch in mismatches)


def test_a_controlnet_holds_a_picture_as_in_diffusers(
    measured: Measured, from_noise: TextToImage, controlnet: ControlNet, net: ControlNetModel, parts: dict[str, Any]
) -> None:
    pipe = StableDiffusionXLControlNetPipeline(**parts, controlnet=net, add_watermarker=False)
    theirs = drawn(
        pipe,
        image=picture(0, (50, 30)),
        latents=NOISE,
        controlnet_conditioning_scale=0.7,
        control_guidance_end=0.8,
        original_size=(900, 700),
        crops_coords_top_left=(30, 50),
    )
    options: Any = {
        "noise": NOISE.numpy(),
        "steps": STEPS,
        "guidance": GUIDANCE,
        "sampler": "euler",
        "height": HEIGHT,
        "width": WIDTH,
        "original_height": 900,
        "original_width": 700,
        "crop_top": 30,
        "crop_left": 50,
    }
    by_net = ControlBy(model=controlnet, image=picture(0, (50, 30)), scale=0.7, end=0.8)
    held = from_noise.generate(PROMPT, controls=[by_net], **options)
    assert measured.note("controlnet", MODEL, type(pipe).__name__, held, theirs) <= MOST_OFF
    assert_it_holds(held, from_noise.generate(PROMPT, **options))


@pytest.mark.parametrize("masked", [False, True])
def test_a_picture_is_changed_under_control_as_in_diffusers(
    measured: Measured,
    sdxl_bundles: dict[str, Path],
    controlnet: ControlNet,
    net: ControlNetModel,
    parts: dict[str, Any],
    masked: bool,
) -> None:
    mask = Image.new("L", (WIDTH, HEIGHT))
    mask.paste(255, (8, 12, 26, 34))
    kind = StableDiffusionXLControlNetInpaintPipeline if masked else StableDiffusionXLControlNetImg2ImgPipeline
    pipe = kind(**parts, controlnet=net, add_watermarker=False)
    theirs = drawn(
        pipe,
        image=picture(3),
        control_image=picture(1),
        **({"mask_image": mask} if masked else {}),
        strength=0.7,
        controlnet_conditioning_scale=1.0,
        generator=torch.Generator().manual_seed(7),
    )
    options: Any = {"seed": 7, "strength": 0.7, "steps": STEPS, "guidance": GUIDANCE, "sampler": "euler"}
    options |= {"height": HEIGHT, "width": WIDTH}
    chain, hole = ImageToImage.load(sdxl_bundles["base"], CPU), mask if masked else None
    by_net = ControlBy(model=controlnet, image=picture(1))
    held = chain.generate(PROMPT, picture(3), hole, controls=[by_net], **options)
    assert measured.note("controlnet", MODEL, kind.__name__, held, theirs) <= MOST_OFF
    assert_it_holds(held, chain.generate(PROMPT, picture(3), hole, **options))


def test_an_adapter_holds_a_picture_as_in_diffusers(
    measured: Measured, from_noise: TextToImage, adapter: Adapter, adapting: T2IAdapter, parts: dict[str, Any]
) -> None:
    assert [(spec.name, spec.shape[1:]) for spec in adapter.contract.outputs] == [
        ("adapter_0", (16, "height/2", "width/2")),
        ("adapter_1", (32, "height/2", "width/2")),
        ("adapter_2", (32, "height/4", "width/4")),
        ("adapter_mid", (32, "height/4", "width/4")),
    ]
    pipe = StableDiffusionXLAdapterPipeline(**parts, adapter=adapting)
    theirs = drawn(pipe, image=picture(1, (50, 30)), latents=NOISE, adapter_conditioning_scale=0.8)
    options: Any = {"noise": NOISE.numpy(), "steps": STEPS, "guidance": GUIDANCE, "sampler": "euler"}
    options |= {"height": HEIGHT, "width": WIDTH}
    by_adapter = ControlBy(model=adapter, image=picture(1, (50, 30)), scale=0.8)
    held = from_noise.generate(PROMPT, controls=[by_adapter], **options)
    assert measured.note("adapter", MODEL, type(pipe).__name__, held, theirs) <= MOST_OFF
    assert_it_holds(held, from_noise.generate(PROMPT, **options))


def test_one_for_another_family_is_refused_by_what_does_not_fit(
    unet: UNet2DConditionModel, sdxl_bundles: dict[str, Path]
) -> None:
    denoiser = ComponentFolder.open(sdxl_bundles["base"] / Kind.DENOISER).manifest.contract
    flat = T2IAdapter(3, [16, 32, 32, 32], num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter")
    with pytest.raises(ExportError, match=r"adapter_0: is \[batch, 16, height, width\], where the denoiser adds"):
        adapter_of(flat, denoiser)
    with pytest.raises(ExportError, match="adapter_mid: denoiser has it, adapter has not"):
        adapter_of(tiny_adapter(unet, 0), denoiser)
    with pytest.raises(ExportError, match="downscale_factor=3: must be a multiple of 2"):
        adapter_of(T2IAdapter(3, [16, 32, 32, 32], downscale_factor=3, adapter_type="full_adapter_xl"), denoiser)
    told = tiny_controlnet(unet, 0)
    told.register_to_config(addition_embed_type=None)
    with pytest.raises(ExportError, match="addition_embed_type=None: is told nothing, the denoiser original_height, "):
        controlnet_of(told, denoiser)
