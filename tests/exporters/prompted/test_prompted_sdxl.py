"""What SDXL is exported with: LoRAs merged, LoRAs of a request and image prompts, all at once, against diffusers."""

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from components.contract import Kind
from exporters.adapter_files import Lora, TextualInversion
from exporters.bundle import BundleOptions, export_bundle
from exporters.checkpoint import Checkpoint
from exporters.edits import EditedCheckpoint, Edits
from exporters.errors import ExportError
from exporters.image_encoder import export_image_encoder
from exporters.image_prompt import ImagePromptAdapter
from exporters.lora import export_lora
from pipeline.text_to_image import TextToImage
from runtime.settings import SessionSettings
from tests.differences import MOST_OFF, Measured
from tests.exporters.adapters import save_image_adapter, save_kohya, save_peft
from tests.exporters.prompted.conftest import PROJECTION
from tests.exporters.sdxl import tiny_base

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CPU = SessionSettings(provider="cpu")
MERGED, OF_THE_REQUEST, LIKE = 0.8, 1.5, 0.7


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("prompted_sdxl") / "base"
    tiny_base().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def files(checkpoint: Path) -> dict[str, Path]:
    pipe, folder = their_pipeline(checkpoint), checkpoint.parent
    encoders = {"te1_text_model": pipe.text_encoder, "te2": pipe.text_encoder_2}
    found = {
        "merged": save_kohya(folder / "merged.safetensors", pipe.unet, encoders),
        "style": save_peft(folder / "style.safetensors", pipe.unet),
        "like": save_image_adapter(folder / "like.safetensors", pipe.unet, PROJECTION),
    }
    # as a component stores it
    save_file({name: tensor.half().float() for name, tensor in load_file(found["style"]).items()}, found["style"])
    return found


@pytest.fixture(scope="module")
def chain(
    checkpoint: Path, files: dict[str, Path], vision: Path, tmp_path_factory: pytest.TempPathFactory
) -> TextToImage:
    out = tmp_path_factory.mktemp("prompted_sdxl_bundle") / "out"
    options = BundleOptions(
        "prompted",
        # so that diffusers can draw with the folder as it is
        "float32",
        edits=Edits((Lora.read(files["merged"], MERGED),)),
        lora_inputs=True,
        image_prompt=ImagePromptAdapter.read(files["like"]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_bundle(checkpoint, out, options)
        denoiser = out / Kind.DENOISER
        export_image_encoder(vision, files["like"], denoiser, out / Kind.IMAGE_ENCODER, weights="float32")
        style = export_lora(files["style"], denoiser, out / "style").path
    return TextToImage.load(out, CPU, loras={"style": style})


def their_pipeline(checkpoint: Path) -> Any:
    pipe = StableDiffusionXLPipeline.from_pretrained(checkpoint, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_the_picture_is_that_of_diffusers(
    measured: Measured, chain: TextToImage, checkpoint: Path, files: dict[str, Path], vision: Path
) -> None:
    noise = torch.randn(1, 4, 20, 16, generator=torch.Generator().manual_seed(5))
    picture = Image.fromarray(np.random.default_rng(3).integers(0, 256, (19, 23, 3), np.uint8))
    pipe = their_pipeline(checkpoint)
    shared: Any = {"latents": noise, "height": 40, "width": 32, "num_inference_steps": 6, "guidance_scale": 4.0}
    ours: Any = {"noise": noise.numpy(), "height": 40, "width": 32, "steps": 6, "guidance": 4.0, "sampler": "euler"}
    model, reference = "tiny SDXL", "StableDiffusionXLPipeline"

    plain = pipe("red", output_type="np", **shared).images[0]
    pipe.load_lora_weights(str(files["merged"]), adapter_name="merged")
    pipe.set_adapters(["merged"], [MERGED])
    pipe.fuse_lora(components=["unet", "text_encoder", "text_encoder_2"], adapter_names=["merged"])
    pipe.unload_lora_weights()
    merged = pipe("red", output_type="np", **shared).images[0]
    image = chain.generate("red", **ours)
    assert measured.note("text_to_image", f"{model}, LoRA merged", reference, image, merged) <= MOST_OFF

    pipe.load_lora_weights(str(files["style"]), adapter_name="style")
    pipe.set_adapters(["style"], [OF_THE_REQUEST])
    styled = pipe("red", output_type="np", **shared).images[0]
    named = [{"model": "style", "scale": OF_THE_REQUEST}]
    image = chain.generate("red", loras=named, **ours)
    assert measured.note("loras", model, reference, image, styled) <= MOST_OFF

    encoder = CLIPVisionModelWithProjection.from_pretrained(vision)
    pipe.register_modules(image_encoder=encoder, feature_extractor=CLIPImageProcessor.from_pretrained(vision))
    pipe.load_ip_adapter(str(files["like"].parent), subfolder="", weight_name=files["like"].name)
    pipe.set_ip_adapter_scale(LIKE)
    like = pipe("red", ip_adapter_image=picture, output_type="np", **shared).images[0]
    image = chain.generate("red", loras=named, image_prompts=[picture], image_prompt_scale=LIKE, **ours)
    assert measured.note("image_prompts", f"{model}, with a LoRA", reference, image, like) <= MOST_OFF

    drawn = [plain, merged, styled, like]
    assert all(np.abs(one - next_).mean() > 2 / 255 for one, next_ in pairwise(drawn))


def test_what_does_not_fit_both_text_encoders_is_refused(
    checkpoint: Path, plain_checkpoint: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"merged.safetensors: .* it adapts text_encoder_2, which sd1 lacks"):
        EditedCheckpoint.of(Checkpoint.open(plain_checkpoint), Edits((Lora.read(files["merged"]),)))
    save_file({"<cat>": torch.zeros(16)}, tmp_path / "cat.safetensors")
    words = Edits(inversions=(TextualInversion.read(tmp_path / "cat.safetensors"),))
    with pytest.raises(ExportError, match=r"cat.safetensors: .* base has text_encoder, text_encoder_2"):
        EditedCheckpoint.of(Checkpoint.open(checkpoint), words)
