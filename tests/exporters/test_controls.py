"""ControlNets and adapters as components: whole tasks against the pipelines of diffusers, and what is refused."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import typer
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    MultiAdapter,
    MultiControlNetModel,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw

from components.compatibility import compatible
from components.contract import CONTROL_PREFIXES, Contract, Kind
from components.folder import ComponentFolder
from components.messages import ControlFeatures, ControlPicture, DenoiseJob
from exporters import adapter as adapter_command
from exporters import controlnet as controlnet_command
from exporters.adapter import export_adapter
from exporters.alone import AloneOptions
from exporters.controlnet import export_controlnet
from exporters.controlnet_network import controlnet as network_of
from exporters.errors import ExportError
from pipeline.adapter import Adapter
from pipeline.controlnet import ControlNet
from pipeline.controls import ControlBy
from pipeline.denoiser import Denoiser
from pipeline.image_to_image import ImageToImage
from pipeline.text_to_image import TextToImage
from runtime.golden import check_golden
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.differences import Measured
from tests.exporters.controls import tiny_adapter, tiny_controlnet
from tests.requests import image_request

pytestmark = [
    pytest.mark.slow,
    # torch, diffusers and transformers warn of packages that are not there and of their own deprecations
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.parametrize("checkpoint", ["sd1"], indirect=True, scope="session"),
]
CPU = SessionSettings(provider="cpu")
PROMPT, STEPS, GUIDANCE, SIDE = "a red caf\u00e9", 7, 4.0, 32


@pytest.fixture(scope="session")
def controlnet_folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("controlnet") / "edges"
    tiny_controlnet(UNet2DConditionModel.from_pretrained(checkpoint / "unet"), seed=1).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def exported(controlnet_folder: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> ComponentFolder:
    out = tmp_path_factory.mktemp("controls") / "edges"
    options = AloneOptions(source="a test", licence="MIT")
    return export_controlnet(controlnet_folder, bundle / Kind.DENOISER, out, options)


@pytest.fixture(scope="session")
def controlnet(exported: ComponentFolder) -> ControlNet:
    return ControlNet(exported, CPU)


@pytest.fixture(scope="session")
def adapter_folders(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of one that sees colours, and of one that sees none."""
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet")
    paths: list[Path] = [tmp_path_factory.mktemp("adapter") / name for name in ("colours", "lines")]
    for seed, (path, channels) in enumerate(zip(paths, (3, 1), strict=True)):
        tiny_adapter(unet, seed, channels).save_pretrained(path)
    return paths


@pytest.fixture(scope="session")
def adapters(adapter_folders: list[Path], bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Adapter]:
    out = tmp_path_factory.mktemp("controls")
    return [
        Adapter(export_adapter(path, bundle / Kind.DENOISER, out / path.name, AloneOptions()), CPU)
        for path in adapter_folders
    ]


@pytest.fixture(scope="session")
def chain(bundle: Path) -> ImageToImage:
    return ImageToImage.load(bundle, CPU)


@pytest.fixture(scope="session")
def from_noise(bundle: Path) -> TextToImage:
    return TextToImage.load(bundle, CPU)


@pytest.fixture(scope="session")
def parts(checkpoint: Path) -> dict[str, Any]:
    """What every pipeline of diffusers takes of the checkpoint."""
    pipe = StableDiffusionPipeline.from_pretrained(checkpoint)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    found: dict[str, Any] = dict(pipe.components)
    for name in ("text_encoder", "unet", "vae"):
        to_half_and_back(found[name])
    return found


def to_half_and_back(module: torch.nn.Module) -> torch.nn.Module:
    """Their weights are the ones that a component stores."""
    for parameter in module.parameters():
        parameter.data.copy_(parameter.data.half())
    return module


def picture(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, (20, 60, 90))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = (int(rng.integers(0, side)) for side in size)
        draw.ellipse((x - 7, y - 7, x + 7, y + 7), fill=tuple(map(int, rng.integers(0, 256, 3))))
    return image


def half() -> Image.Image:
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (0, 0, SIDE // 2, SIDE))
    return mask


def noise(height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(5))


def drawn(pipe: Any, **arguments: Any) -> npt.NDArray[np.float64]:
    pipe.set_progress_bar_config(disable=True)
    shared = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "np"}
    pixels: npt.NDArray[np.float64] = pipe(PROMPT, **{**shared, **arguments}).images[0]
    return pixels


@dataclass(frozen=True)
class Comparison:
    """Of one task with one pipeline of diffusers."""

    measured: Measured
    task: str
    pipe: Any

    def assert_same(self, ours: Image.Image, theirs: npt.NDArray[np.float64], without: Image.Image) -> None:
        """`without` is drawn without what is tested, which must not be the same."""
        # here not one value differs; on other processors rounding may make some 0.05
        assert self.measured.note(self.task, "tiny sd1", type(self.pipe).__name__, ours, theirs) <= 0.3
        pixels = np.asarray(ours).astype(float)
        assert np.abs(pixels - np.asarray(without).astype(float)).mean() > 1, "it makes no difference"


def test_one_controlnet_holds_a_picture_as_in_diffusers(
    measured: Measured, from_noise: TextToImage, controlnet: ControlNet, controlnet_folder: Path, parts: dict[str, Any]
) -> None:
    net = to_half_and_back(ControlNetModel.from_pretrained(controlnet_folder))
    pipe = StableDiffusionControlNetPipeline(**{**parts, "controlnet": net})
    control = picture(0, (50, 30))
    start = noise(24, 20)
    for guidance in (GUIDANCE, 1.0):
        theirs = drawn(
            pipe,
            image=control,
            latents=start,
            height=48,
            width=40,
            guidance_scale=guidance,
            controlnet_conditioning_scale=0.7,
        )
        options: Any = {"noise": start.numpy(), "height": 48, "width": 40, "steps": STEPS, "guidance": guidance}
        held = from_noise.generate(
            PROMPT, controls=[ControlBy(model=controlnet, image=control, scale=0.7)], sampler="ddim", **options
        )
        Comparison(measured, "controlnet", pipe).assert_same(
            held, theirs, from_noise.generate(PROMPT, sampler="ddim", **options)
        )


def test_two_at_once_each_hold_their_own_steps(
    measured: Measured, from_noise: TextToImage, controlnet: ControlNet, controlnet_folder: Path, parts: dict[str, Any]
) -> None:
    net = to_half_and_back(ControlNetModel.from_pretrained(controlnet_folder))
    pipe = StableDiffusionControlNetPipeline(**{**parts, "controlnet": MultiControlNetModel([net, net])})
    pictures = [picture(1), picture(2)]
    scales, starts, ends = [0.5, 1.5], [0.0, 0.4], [0.6, 0.9]
    theirs = drawn(
        pipe,
        image=pictures,
        latents=noise(),
        controlnet_conditioning_scale=scales,
        control_guidance_start=starts,
        control_guidance_end=ends,
    )
    controls = [
        ControlBy(model=controlnet, image=image, scale=scale, start=start, end=end)
        for image, scale, start, end in zip(pictures, scales, starts, ends, strict=True)
    ]
    options: Any = {"noise": noise().numpy(), "steps": STEPS, "guidance": GUIDANCE, "sampler": "ddim"}
    held = from_noise.generate(PROMPT, controls=controls, **options)
    Comparison(measured, "controlnet", pipe).assert_same(
        held, theirs, from_noise.generate(PROMPT, controls=controls[:1], **options)
    )


def test_a_picture_is_changed_under_control(
    measured: Measured, chain: ImageToImage, controlnet: ControlNet, controlnet_folder: Path, parts: dict[str, Any]
) -> None:
    net = to_half_and_back(ControlNetModel.from_pretrained(controlnet_folder))
    pipe = StableDiffusionControlNetImg2ImgPipeline(**{**parts, "controlnet": net})
    theirs = drawn(
        pipe,
        image=picture(3),
        control_image=picture(1),
        strength=0.7,
        height=SIDE,
        width=SIDE,
        # the default is 0.8 there
        controlnet_conditioning_scale=1.0,
        control_guidance_end=0.7,
        generator=torch.Generator("cpu").manual_seed(42),
    )
    options: Any = {"seed": 42, "strength": 0.7, "steps": STEPS, "guidance": GUIDANCE, "sampler": "ddim"}
    held = chain.generate(
        PROMPT, picture(3), controls=[ControlBy(model=controlnet, image=picture(1), end=0.7)], **options
    )
    Comparison(measured, "controlnet", pipe).assert_same(held, theirs, chain.generate(PROMPT, picture(3), **options))


def test_a_part_is_drawn_anew_under_control(
    measured: Measured, chain: ImageToImage, controlnet: ControlNet, controlnet_folder: Path, parts: dict[str, Any]
) -> None:
    net = to_half_and_back(ControlNetModel.from_pretrained(controlnet_folder))
    pipe = StableDiffusionControlNetInpaintPipeline(**{**parts, "controlnet": net})
    theirs = drawn(
        pipe,
        image=picture(3),
        mask_image=half(),
        control_image=picture(1),
        strength=0.8,
        height=SIDE,
        width=SIDE,
        controlnet_conditioning_scale=1.0,
        generator=torch.Generator("cpu").manual_seed(42),
    )
    options: Any = {"seed": 42, "strength": 0.8, "steps": STEPS, "guidance": GUIDANCE, "sampler": "ddim"}
    held = chain.generate(
        PROMPT, picture(3), half(), controls=[ControlBy(model=controlnet, image=picture(1))], **options
    )
    Comparison(measured, "controlnet", pipe).assert_same(
        held, theirs, chain.generate(PROMPT, picture(3), half(), **options)
    )


def test_adapters_hold_a_picture_as_in_diffusers(
    measured: Measured,
    from_noise: TextToImage,
    adapters: list[Adapter],
    adapter_folders: list[Path],
    parts: dict[str, Any],
) -> None:
    # it knows no encoder of pictures
    parts = {name: part for name, part in parts.items() if name != "image_encoder"}
    colours, lines = (to_half_and_back(T2IAdapter.from_pretrained(path)) for path in adapter_folders)
    options: Any = {"noise": noise().numpy(), "steps": STEPS, "guidance": GUIDANCE, "sampler": "ddim"}
    plain = from_noise.generate(PROMPT, **options)
    one = StableDiffusionAdapterPipeline(**{**parts, "adapter": colours})
    theirs = drawn(one, image=picture(1), latents=noise(), adapter_conditioning_scale=0.8)
    by_colours = ControlBy(model=adapters[0], image=picture(1), scale=0.8)
    held = from_noise.generate(PROMPT, controls=[by_colours], **options)
    Comparison(measured, "adapter", one).assert_same(held, theirs, plain)

    both = StableDiffusionAdapterPipeline(**{**parts, "adapter": MultiAdapter([colours, lines])})
    theirs = drawn(
        both,
        image=[picture(1), picture(2).convert("L")],
        latents=noise(),
        adapter_conditioning_scale=[0.8, 0.6],
    )
    by_lines = ControlBy(model=adapters[1], image=picture(2), scale=0.6)
    of_both = from_noise.generate(PROMPT, controls=[by_colours, by_lines], **options)
    Comparison(measured, "adapter", both).assert_same(of_both, theirs, held)


def test_both_are_whole_components_that_fit_their_denoiser(
    bundle: Path, controlnet: ControlNet, adapters: list[Adapter]
) -> None:
    denoiser = ComponentFolder.open(bundle / Kind.DENOISER).manifest.contract
    for contract in (controlnet.contract, *(adapter.contract for adapter in adapters)):
        assert compatible(contract, denoiser) == []
        assert compatible(denoiser, contract) == []
        assert compatible(contract, controlnet.contract) == []


def test_golden_cases_and_origin_are_told(exported: ComponentFolder) -> None:
    exported.verify()
    origin = exported.manifest.origin
    assert (origin.source, origin.licence) == ("a test", "MIT")
    assert exported.manifest.parity.max_absolute_error <= 1e-4
    errors = check_golden(Session.open(exported, CPU), exported)
    assert len(errors) == 4
    assert all(error.within for error in errors)


def control_inputs(contract: Contract) -> list[str]:
    return [spec.name for spec in contract.inputs if spec.name.startswith(tuple(CONTROL_PREFIXES.values()))]


def test_what_is_left_out_is_zeros_to_the_bit(bundle: Path) -> None:
    folder = ComponentFolder.open(bundle / Kind.DENOISER)
    session = Session.open(folder, CPU)
    added = control_inputs(session.contract)
    assert [name for name in added if name.startswith("control_")] == [
        *(f"control_{number}" for number in range(4)),
        "control_mid",
    ]
    assert [name for name in added if name.startswith("adapter_")] == ["adapter_0", "adapter_1"]
    with np.load(folder.path / folder.manifest.golden[3].file) as arrays:
        feeds = {name.removeprefix("input."): arrays[name] for name in arrays.files if name.startswith("input.")}
    zeros = {name: np.zeros_like(feeds[name]) for name in added}
    plain = {name: array for name, array in feeds.items() if name not in added}
    left_out = session.run(plain)["prediction"]
    np.testing.assert_array_equal(session.run({**plain, **zeros})["prediction"], left_out)
    for name in added:
        assert (session.run({**plain, name: feeds[name]})["prediction"] != left_out).any(), name


def test_a_walks_bytes_do_not_depend_on_who_is_held_beside_it(
    bundle: Path, controlnet: ControlNet, adapters: list[Adapter]
) -> None:
    denoiser = Denoiser(ComponentFolder.open(bundle / Kind.DENOISER), CPU)
    pixels = [np.asarray(picture(seed))[np.newaxis] for seed in range(3)]
    by_net = ControlPicture(pixels=pixels[0], scale=0.7, end=0.6)
    features = ControlFeatures(arrays=adapters[0].features(pixels[2]), start=0.3)
    plain = denoise_job()
    jobs = [
        (plain, ()),
        (replace(plain, controls=(by_net,)), (controlnet,)),
        (replace(plain, controls=(by_net, ControlPicture(pixels=pixels[1]))), (controlnet, controlnet)),
        (replace(plain, features=(features,), guidance=1.0, rows={"positive": plain.rows["positive"]}), ()),
    ]
    alone = [denoiser.denoise(job, nets).tobytes() for job, nets in jobs]
    assert len(set(alone)) == len(jobs)
    tracks = [denoiser.begin(job, controlnets=nets) for job, nets in jobs]
    assert len({track.signature for track in tracks}) == 1
    # not in step: each is alone for a while, and some go on when others are done
    for together in ([0], [1, 2], [3, 1], [0, 1, 2, 3]):
        denoiser.advance([tracks[number] for number in together])
    while waiting := [track for track in tracks if not track.done]:
        denoiser.advance(waiting)
    assert [track.latents.tobytes() for track in tracks] == alone


def denoise_job() -> DenoiseJob:
    rng = np.random.default_rng(0)
    rows = {name: {"hidden_states": rng.standard_normal((1, 77, 16), np.float32)} for name in ("positive", "negative")}
    request = image_request(steps=5)
    return DenoiseJob(rows=rows, **request.parts(), height=16, width=16)


def test_a_controlnet_of_another_denoiser_is_refused(controlnet_folder: Path, bundle: Path, tmp_path: Path) -> None:
    unet = UNet2DConditionModel(
        sample_size=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 24),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=2,
    )
    tiny_controlnet(unet, 0).save_pretrained(tmp_path / "narrow")
    denoiser = bundle / Kind.DENOISER
    with pytest.raises(ExportError, match="control_3 dimension 1: controlnet gives 24, denoiser takes 32"):
        export_controlnet(tmp_path / "narrow", denoiser, tmp_path / "out", AloneOptions())
    with pytest.raises(ExportError, match="a ControlNet is exported for a denoiser, and this is a vae_decoder"):
        export_controlnet(controlnet_folder, bundle / Kind.VAE_DECODER, tmp_path / "out", AloneOptions())
    tiny_adapter(unet, 0).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ExportError, match="adapter_1 dimension 1: adapter gives 24, denoiser takes 32"):
        export_adapter(tmp_path / "adapter", denoiser, tmp_path / "out", AloneOptions())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("cross_attention_dim", 32, "cross_attention_dim=32: must be 16"),
        ("conditioning_embedding_out_channels", (8,), "makes pictures smaller by=1: must be 2"),
        ("class_embed_type", "timestep", "class_embed_type='timestep': must be None"),
        ("global_pool_conditions", True, "global_pool_conditions=True: must be False"),
    ],
)
def test_a_controlnet_of_what_no_stage_hands_over_is_refused_by_name(
    bundle: Path, checkpoint: Path, field: str, value: object, words: str
) -> None:
    network = tiny_controlnet(UNet2DConditionModel.from_pretrained(checkpoint / "unet"), 0)
    network.register_to_config(**{field: value})
    with pytest.raises(ExportError) as refused:
        network_of(network, ComponentFolder.open(bundle / Kind.DENOISER).manifest.contract)
    assert words in str(refused.value)


def test_the_command_lines_say_what_is_wrong(
    controlnet_folder: Path,
    adapter_folders: list[Path],
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pickled = Path(shutil.copytree(controlnet_folder, tmp_path / "pickled"))
    weights = pickled / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    for command, folder, words in (
        (controlnet_command.main, adapter_folders[0], "is for T2IAdapter; ControlNetModel can be exported"),
        (adapter_command.main, controlnet_folder, "is for ControlNetModel; T2IAdapter can be exported"),
        (controlnet_command.main, pickled, "diffusion_pytorch_model.bin is a pickle"),
    ):
        with pytest.raises(typer.Exit) as exit_:
            command(folder, bundle / Kind.DENOISER, tmp_path / "out")
        assert exit_.value.exit_code == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
