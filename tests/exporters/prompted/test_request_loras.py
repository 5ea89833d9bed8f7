"""LoRAs of single requests, against diffusers' set_adapters, and rows with different ones in one run."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from components.contract import Kind
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.messages import Arrays, DenoiseJob, FloatArray, LoraChoice
from components.reference import registered_name
from diffusion.guidance import Row
from exporters.errors import ExportError
from exporters.lora import export_lora
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError
from pipeline.loras import LoraShelf
from pipeline.request import RequestRules
from pipeline.text_to_image import TextToImage
from runtime.settings import SessionSettings
from tests.differences import MOST_OFF, Measured
from tests.exporters.adapters import save_kohya, save_peft
from tests.exporters.prompted.conftest import their_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CPU = SessionSettings(provider="cpu")
RANKS = {"one": 1, "two": 2, "wide": 17}


@pytest.fixture(scope="module")
def files(plain_checkpoint: Path) -> dict[str, Path]:
    unet, folder = their_pipeline(plain_checkpoint).unet, plain_checkpoint.parent
    saved = {name: save_peft(folder / f"{name}.safetensors", unet, rank, seed=rank) for name, rank in RANKS.items()}
    for file in saved.values():
        # as a component stores them
        save_file({name: tensor.half().float() for name, tensor in load_file(file).items()}, file)
    return saved


@pytest.fixture(scope="module")
def loras(prompted: Path, files: dict[str, Path]) -> dict[str, Path]:
    return {
        name: export_lora(file, prompted / Kind.DENOISER, file.parent / f"{name}.component").path
        for name, file in files.items()
    }


@pytest.fixture(scope="module")
def chain(prompted: Path, loras: dict[str, Path]) -> TextToImage:
    return TextToImage.load(prompted, CPU, loras=loras)


def ours(chain: TextToImage, noise: torch.Tensor, *loras: tuple[str, float]) -> Image.Image:
    named = [{"model": model, "scale": scale} for model, scale in loras]
    return chain.generate("red", noise=noise.numpy(), steps=7, guidance=4.0, sampler="ddim", loras=named)


def test_the_picture_is_that_of_diffusers_at_the_same_scales(
    measured: Measured, chain: TextToImage, plain_checkpoint: Path, files: dict[str, Path]
) -> None:
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    pipe = their_pipeline(plain_checkpoint)
    for name, file in files.items():
        pipe.load_lora_weights(str(file), adapter_name=name)

    def theirs() -> npt.NDArray[np.float64]:
        drawn: npt.NDArray[np.float64] = pipe(
            "red", latents=noise, num_inference_steps=7, guidance_scale=4.0, output_type="np"
        ).images[0]
        return drawn

    drawn, reference = [], "StableDiffusionPipeline"
    for scales in ({"two": 2.0}, {"one": -3.0}, {"two": 1.4, "wide": 0.6}):
        pipe.set_adapters(list(scales), list(scales.values()))
        drawn.append(theirs())
        picture = ours(chain, noise, *scales.items())
        assert measured.note("loras", "tiny sd1", reference, picture, drawn[-1]) <= MOST_OFF
    pipe.disable_lora()
    plain = theirs()
    assert measured.note("text_to_image", "tiny sd1, LoRAs left out", reference, ours(chain, noise), plain) <= MOST_OFF
    for expected in drawn:
        assert np.abs(expected - plain).mean() > 2 / 255, "a LoRA without effect"


def job(seed: int, adapted: Arrays) -> DenoiseJob:
    generator = np.random.default_rng(seed)

    def row() -> Arrays:
        return {"hidden_states": generator.standard_normal((1, 77, 16), np.float32), **adapted}

    return DenoiseJob(
        rows={Row.NEGATIVE: row(), Row.POSITIVE: row()},
        steps=3,
        guidance=3.0,
        sampler="euler",
        schedule="default",
        rng="torch",
        seed=seed,
        subseed=None,
        subseed_strength=0.0,
        height=8,
        width=8,
    )


def test_rows_with_different_loras_share_a_run_and_have_the_bytes_that_they_have_alone(
    prompted: Path, loras: dict[str, Path]
) -> None:
    denoiser = Denoiser(ComponentFolder.open(prompted / Kind.DENOISER), CPU)
    shelf = LoraShelf({name: ComponentFolder.open(path) for name, path in loras.items()}, denoiser.contract, CPU)
    chosen = [(), (("one", 1.0),), (("two", 0.5),), (("wide", 1.0), ("one", 0.2)), (("wide", -1.0),)]
    jobs = [job(seed, shelf.arrays([LoraChoice(*choice) for choice in choices])) for seed, choices in enumerate(chosen)]
    alone = [denoiser.denoise(each) for each in jobs]
    for company in ((0, 1), (1, 2), (0, 1, 2, 3, 4), (4, 2), (1, 3)):
        tracks = [denoiser.begin(jobs[index]) for index in company]
        assert len({track.signature for track in tracks}) == 1
        while not tracks[0].done:
            denoiser.advance(tracks)
        for index, track in zip(company, tracks, strict=True):
            np.testing.assert_array_equal(track.latents, alone[index])
    assert_apart(alone)


def assert_apart(latents: list[FloatArray]) -> None:
    assert all(np.abs(one - other).max() > 1e-3 for one, other in pairwise(latents))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ([{"model": "none"}], "loras='none': must be one of one, two, wide"),
        ([{"model": "two"}] * 2, "loras='two': must be named once"),
        ([{"model": "two", "scale": float("nan")}], "loras='scale nan': must be a scale between -100 and 100"),
        ([{"model": "two", "scale": True}], "loras='scale True': must be a scale between -100 and 100"),
        ([{"scale": 1.0}], "must be an object with model and, if it is not 1, scale"),
        ([{"model": name} for name in RANKS], "loras='3 LoRAs': must be at most 2"),
        ("two", "loras='two': must be a list of objects with model and scale"),
    ],
)
def test_what_cannot_be_drawn_with_is_refused(chain: TextToImage, named: list[dict[str, object]], message: str) -> None:
    chain.rules = RequestRules(max_loras=2)
    with pytest.raises(RequestError, match="loras") as refused:
        chain.generate("red", loras=named)
    chain.rules = RequestRules()
    assert message in str(refused.value)


def test_a_file_that_no_request_can_name_is_refused(
    prompted: Path, plain_checkpoint: Path, loras: dict[str, Path], tmp_path: Path
) -> None:
    pipe, denoiser = their_pipeline(plain_checkpoint), prompted / Kind.DENOISER
    file = save_kohya(tmp_path / "style.safetensors", pipe.unet, {"te_text_model": pipe.text_encoder})
    with pytest.raises(ExportError, match=r"style.safetensors: adapts the text encoder too, which no request can"):
        export_lora(file, denoiser, tmp_path / "out")
    with pytest.raises(ExportError, match=r"style.safetensors: does not fit denoiser: .*takes no LoRA there, and"):
        export_lora(file, denoiser, tmp_path / "out", without_text_encoder=True)
    with pytest.raises(ExportError, match="the denoiser takes no LoRAs of requests"):
        export_lora(loras["two"].parent / "two.safetensors", prompted / Kind.VAE_DECODER, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ComponentError, match="other: is a vae_decoder, must be a lora"):
        TextToImage.load(prompted, CPU, loras={"other": prompted / Kind.VAE_DECODER})


def test_a_lora_is_a_component_like_others(loras: dict[str, Path]) -> None:
    folder = ComponentFolder.open(loras["two"])
    assert folder.manifest.contract.kind == Kind.LORA
    assert registered_name("style", Kind.LORA) == "style.lora"
