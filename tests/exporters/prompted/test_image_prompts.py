"""Image prompts by an IP-Adapter, against diffusers' load_ip_adapter on the same files."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from components.contract import PARTS, Kind
from components.folder import ComponentFolder
from components.messages import Arrays, FloatArray
from exporters.checkpoint import Checkpoint
from exporters.errors import ExportError
from exporters.image_encoder import export_image_encoder
from exporters.image_prompt import ImagePromptAdapter, add_image_prompt
from pipeline.errors import RequestError
from pipeline.image_encoder import ImageEncoder, normalised, square
from pipeline.joining import joined
from pipeline.request import RequestFields
from pipeline.text_to_image import TextToImage
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.differences import MOST_OFF, Measured
from tests.exporters.adapters import rounded_to_half
from tests.exporters.prompted.conftest import SIDE, their_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CPU = SessionSettings(provider="cpu")


def picture(seed: int, size: tuple[int, int] = (40, 27)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


@pytest.fixture(scope="module")
def pipe(plain_checkpoint: Path, vision: Path, image_adapter: Path) -> Any:
    pipe = their_pipeline(plain_checkpoint)
    encoder = CLIPVisionModelWithProjection.from_pretrained(vision)
    pipe.register_modules(image_encoder=encoder, feature_extractor=CLIPImageProcessor.from_pretrained(vision))
    pipe.load_ip_adapter(str(image_adapter.parent), subfolder="", weight_name=image_adapter.name)
    for parameter in encoder.parameters():
        parameter.data.copy_(parameter.data.half())
    return rounded_to_half(pipe)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize(("seeds", "scale"), [((1,), 1.0), ((1, 2), 0.6)])
def test_the_picture_is_that_of_diffusers(
    measured: Measured, prompted: Path, pipe: Any, seeds: tuple[int, ...], scale: float, guidance: float
) -> None:
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    pictures = [picture(seed) for seed in seeds]
    chain = TextToImage.load(prompted, CPU)

    def theirs(scale: float) -> npt.NDArray[np.float64]:
        pipe.set_ip_adapter_scale(scale)
        drawn: npt.NDArray[np.float64] = pipe(
            "red",
            latents=noise,
            ip_adapter_image=[pictures],
            num_inference_steps=7,
            guidance_scale=guidance,
            output_type="np",
        ).images[0]
        return drawn

    def ours(**prompts: Any) -> Image.Image:
        return chain.generate("red", noise=noise.numpy(), steps=7, guidance=guidance, sampler="ddim", **prompts)

    expected, plain = theirs(scale), theirs(0.0)
    image = ours(image_prompts=pictures, image_prompt_scale=scale)
    assert measured.note("image_prompts", "tiny sd1", "StableDiffusionPipeline", image, expected) <= MOST_OFF
    model = "tiny sd1, image prompts left out"
    assert measured.note("text_to_image", model, "StableDiffusionPipeline", ours(), plain) <= MOST_OFF
    assert np.abs(expected - plain).mean() > 2 / 255, "a picture without effect"


@pytest.mark.parametrize("size", [(40, 27), (16, 33), (7, 9), (16, 16)])
def test_pictures_are_made_ready_as_by_clips_processor(prompted: Path, vision: Path, size: tuple[int, int]) -> None:
    contract = ComponentFolder.open(prompted / Kind.IMAGE_ENCODER).manifest.contract
    assert contract.preprocessing is not None
    shown = picture(3, size)
    expected = CLIPImageProcessor.from_pretrained(vision)(shown, return_tensors="np").pixel_values
    assert expected.shape == (1, 3, SIDE, SIDE)
    ours = normalised(square(shown, contract.preprocessing, 2**20, "image_prompts"), contract.preprocessing)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_rows_of_any_number_of_pictures_have_the_bytes_that_they_have_alone(prompted: Path) -> None:
    session = Session.open(ComponentFolder.open(prompted / Kind.DENOISER), CPU)
    encoder = ImageEncoder(ComponentFolder.open(prompted / Kind.IMAGE_ENCODER), CPU)
    generator = np.random.default_rng(8)

    def feeds(pictures: int) -> Arrays:
        own = encoder.rows([picture(seed) for seed in range(pictures)], 0.8, 10_000)["positive"] if pictures else {}
        return {
            "latents": generator.standard_normal((1, 4, 8, 8), np.float32),
            "hidden_states": generator.standard_normal((1, 77, 16), np.float32),
            "timestep": np.array([500], np.float32),
            **own,
        }

    rows = [feeds(pictures) for pictures in (0, 1, 3, 1)]

    def run(*company: int) -> FloatArray:
        found: FloatArray = session.run(joined([rows[index] for index in company], [1] * len(company)))["prediction"]
        return found

    alone = [run(index) for index in range(len(rows))]
    for company in ((0, 1), (1, 2), (0, 1, 2, 3), (3, 0)):
        for index, prediction in zip(company, run(*company), strict=True):
            np.testing.assert_array_equal(prediction, alone[index][0])
    assert np.abs(alone[1] - alone[3]).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_prompts": [picture(1)] * 5}, "image_prompts='5 pictures': must be at most 4"),
        ({"image_prompts": [picture(1)], "image_prompt_scale": 1.5}, "image_prompt_scale=1.5: must be"),
        ({"image_prompt_scale": 0.5}, "image_prompt_scale=0.5: must be left out without image_prompts"),
        ({"image_prompts": [Image.new("RGB", (5000, 5000))]}, "image_prompts=5000x5000: must have 1 to 16777216"),
    ],
)
def test_what_is_no_image_prompt_is_refused(prompted: Path, options: Any, message: str) -> None:
    with pytest.raises(RequestError, match="image_prompt") as refused:
        TextToImage.load(prompted, CPU).generate("red", **options)
    assert message in str(refused.value)


def test_pictures_are_neither_left_out_nor_added_unnoticed(prompted: Path) -> None:
    chain = TextToImage.load(prompted, CPU)
    for counted, given, message in ((1, [], "must be those that were checked"), (0, [picture(1)], "must be left out")):
        checked = chain.check(RequestFields(prompt="red", image_prompts=counted, steps=1))
        with pytest.raises(RequestError, match=f"image_prompts='{len(given)} pictures': {message}"):
            chain.draw(checked, image_prompts=given)
    folders = {kind: ComponentFolder.open(prompted / kind) for kind in PARTS}
    with pytest.raises(RequestError, match="must be left out, as there is no image encoder here"):
        TextToImage.of(folders, CPU).generate("red", image_prompts=[picture(1)])


def test_an_adapter_of_another_family_is_refused(
    plain_checkpoint: Path, prompted: Path, vision: Path, image_adapter: Path, tmp_path: Path
) -> None:
    tensors, file = load_file(image_adapter), tmp_path / "adapter.safetensors"
    save_file({name: tensor for name, tensor in tensors.items() if "image_proj" in name}, file)
    with pytest.raises(ExportError, match=r"adapter.safetensors: is no IP-Adapter: it must have"):
        ImagePromptAdapter.read(file)
    save_file({**tensors, "ip_adapter.1.to_k_ip.weight": torch.zeros(8, 768)}, file)
    adapter = ImagePromptAdapter.read(file)
    with pytest.raises(ExportError, match=r"adapter.safetensors: is for another family than this U-Net"):
        add_image_prompt(Checkpoint.open(plain_checkpoint).unet(), adapter, {})
    save_file({**tensors, "image_proj.proj.weight": torch.zeros(64, 99)}, file)
    with pytest.raises(ExportError, match=r"adapter.safetensors: is for another image encoder than image_encoder"):
        export_image_encoder(vision, file, prompted / Kind.DENOISER, tmp_path / "out")
    wide = {"proj.weight": torch.zeros(4 * 24, 12), "proj.bias": torch.zeros(4 * 24)}
    wide |= {"norm.weight": torch.zeros(24), "norm.bias": torch.zeros(24)}
    save_file({**tensors, **{f"image_proj.{name}": tensor for name, tensor in wide.items()}}, file)
    with pytest.raises(ExportError, match="image_encoder gives 24, denoiser takes 16"):
        export_image_encoder(vision, file, prompted / Kind.DENOISER, tmp_path / "out")
