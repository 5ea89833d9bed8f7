"""Whole exports: what the four components compute, and what the pipeline draws with them, against diffusers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from components.contract import PARTS, Kind
from components.errors import ComponentError
from components.folder import ComponentFolder
from exporters.bundle import BundleOptions, export_bundle
from exporters.errors import ExportError
from pipeline.bundle import open_bundle
from pipeline.text_encoder import TextEncoder
from pipeline.text_to_image import TextToImage
from runtime.golden import check_golden
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.differences import MOST_OFF, Measured

pytestmark = [
    pytest.mark.slow,
    # torch, diffusers and transformers warn of packages that are not there and of their own deprecations
    pytest.mark.filterwarnings("ignore"),
]
CPU = SessionSettings(provider="cpu")


def test_the_components_are_whole_and_fit_together(bundle: Path) -> None:
    folders = open_bundle(bundle, PARTS)
    for folder in folders.values():
        manifest = folder.manifest
        assert manifest.weights == "float16"
        assert manifest.parity.max_absolute_error <= 1e-4
        assert manifest.origin.source == "a test"
        assert len(manifest.golden) == 4
        assert all(error.within for error in check_golden(Session.open(folder, CPU), folder))


def test_the_denoisers_contract_says_how_it_was_trained(bundle: Path) -> None:
    contract = ComponentFolder.open(bundle / Kind.DENOISER).manifest.contract
    assert contract.latent_size == (16, 16)
    assert contract.latent_multiple == 2
    assert contract.latent_space is not None
    assert (contract.latent_space.id, contract.latent_space.downscale) == (bundle.name, 2)
    timestep = next(spec for spec in contract.inputs if spec.name == "timestep")
    assert timestep.shape == ("batch",)
    assert contract.preview is not None
    assert len(contract.preview.factors) == 4


def test_weights_are_stored_as_float16(bundle: Path) -> None:
    model = onnx.load(bundle / Kind.DENOISER / "model.onnx")
    stored = dict.fromkeys((TensorProto.FLOAT, TensorProto.FLOAT16), 0)
    for initializer in model.graph.initializer:
        if initializer.data_type in stored:
            stored[initializer.data_type] += onnx.numpy_helper.to_array(initializer).size
    assert stored[TensorProto.FLOAT16] > 10 * stored[TensorProto.FLOAT]


def test_no_path_of_this_machine_is_in_a_graph(bundle: Path) -> None:
    for kind in PARTS:
        content = (bundle / kind / "model.onnx").read_bytes()
        for path in (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]), "site-packages", "File "):
            assert path.encode() not in content, f"{kind}: {path}"


def test_a_rows_bytes_do_not_depend_on_its_company(bundle: Path) -> None:
    folder = ComponentFolder.open(bundle / Kind.DENOISER)
    session = Session.open(folder, CPU)
    with np.load(folder.path / folder.manifest.golden[3].file) as arrays:
        feeds = {name.removeprefix("input."): arrays[name] for name in arrays.files if name.startswith("input.")}
    together = session.run(feeds)["prediction"]
    for rows in ([0], [3], [0, 1], [2, 3], [3, 0, 1]):
        apart = session.run({name: array[rows] for name, array in feeds.items()})["prediction"]
        np.testing.assert_array_equal(apart, together[rows])


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_picture_is_that_of_diffusers(measured: Measured, checkpoint: Path, bundle: Path, guidance: float) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(checkpoint)
    # SD 1.5's own configuration says so; PNDM's class does not know the field
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    _round_to_half(pipe)
    noise = torch.randn(1, 4, 24, 20, generator=torch.Generator().manual_seed(5))
    prompt, negative = "a red caf\u00e9 \N{RED APPLE}", "" if guidance == 1 else "blue"
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        prompt,
        negative_prompt=negative,
        latents=noise,
        height=48,
        width=40,
        num_inference_steps=7,
        guidance_scale=guidance,
        output_type="np",
    ).images[0]
    image = TextToImage.load(bundle, CPU).generate(
        prompt,
        negative_prompt=negative,
        noise=noise.numpy(),
        height=48,
        width=40,
        steps=7,
        guidance=guidance,
        sampler="ddim",
    )
    model = f"tiny {checkpoint.name}"
    assert measured.note("text_to_image", model, "StableDiffusionPipeline", image, expected) <= MOST_OFF


def test_every_layer_is_transformers_hidden_state_after_the_final_norm(checkpoint: Path, bundle: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(checkpoint)
    _round_to_half(pipe)
    encoder = TextEncoder(ComponentFolder.open(bundle / Kind.TEXT_ENCODER), CPU)
    assert encoder.contract.most_clip_skip == pipe.text_encoder.config.num_hidden_layers == 2
    texts = ["a red caf\u00e9", ""]
    ids = pipe.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states
        layers = [pipe.text_encoder.final_layer_norm(state).numpy() for state in states]
    for clip_skip in (1, 2):
        ours = encoder.encode(texts, clip_skip=clip_skip).arrays["hidden_states"]
        np.testing.assert_allclose(ours, layers[-clip_skip], atol=1e-4)
        assert np.abs(ours - layers[clip_skip - 3]).max() > 0.01, "two layers are alike, and each could be the other"


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("checkpoint", ["sd1"], indirect=True)
def test_clip_skip_is_one_more_than_that_of_diffusers(checkpoint: Path, bundle: Path, guidance: float) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(checkpoint)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    _round_to_half(pipe)
    pipe.set_progress_bar_config(disable=True)
    # diffusers asks for the norm where transformers had it before 5
    object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))

    def their_picture(clip_skip: int | None) -> npt.NDArray[np.float32]:
        # of a negative prompt diffusers takes the last layer whatever is asked for; A1111 and we do not
        negative, _ = pipe.encode_prompt("blue", "cpu", 1, False, clip_skip=clip_skip)
        picture: npt.NDArray[np.float32] = pipe(
            "a red caf\u00e9",
            negative_prompt_embeds=negative if guidance > 1 else None,
            latents=noise,
            num_inference_steps=7,
            guidance_scale=guidance,
            clip_skip=clip_skip,
            output_type="np",
        ).images[0]
        return picture

    drawn = [their_picture(None), their_picture(1)]
    chain = TextToImage.load(bundle, CPU)
    for clip_skip, expected in enumerate(drawn, 1):
        image = chain.generate(
            "a red caf\u00e9",
            negative_prompt="blue",
            noise=noise.numpy(),
            steps=7,
            guidance=guidance,
            sampler="ddim",
            clip_skip=clip_skip,
        )
        assert np.abs(np.asarray(image).astype(float) - np.round(expected * 255)).mean() <= 1
    assert np.abs(drawn[0] - drawn[1]).max() > 2 / 255, "the layer makes no difference"


@pytest.mark.parametrize("checkpoint", ["sd1"], indirect=True)
def test_a_seed_of_diffusers_gives_its_picture_by_dpmpp_2m_karras(checkpoint: Path, bundle: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(checkpoint)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    _round_to_half(pipe)
    pipe.set_progress_bar_config(disable=True)
    seeded = torch.Generator("cpu").manual_seed(42)
    (expected,) = pipe("red", generator=seeded, num_inference_steps=12, guidance_scale=4, output_type="np").images
    image = TextToImage.load(bundle, CPU).generate("red", seed=42, steps=12, guidance=4.0, sampler="DPM++ 2M Karras")
    assert np.abs(np.asarray(image).astype(float) - np.round(expected * 255)).mean() <= 1
    assert np.asarray(image).std() > 1, "an empty picture equals any other"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=120))
def test_the_tokenizer_is_that_of_transformers(checkpoint: Path, bundle: Path, text: str) -> None:
    theirs = CLIPTokenizer.from_pretrained(checkpoint / "tokenizer")
    ours = Tokenizer.from_file(str(bundle / Kind.TEXT_ENCODER / "tokenizer.json"))
    expected = theirs(text, padding="max_length", truncation=True, max_length=theirs.model_max_length).input_ids
    assert ours.encode(text).ids == expected


@pytest.mark.parametrize("checkpoint", ["sd2"], indirect=True)
def test_the_command_line_exports_a_single_file_offline_to_what_the_folder_is(
    tmp_path: Path, checkpoint: Path, bundle: Path, single_file: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "exporters", str(single_file), "--configs", str(checkpoint), "--bundle", "mine"]
    done = subprocess.run(
        [*command, "--out", str(out), "--weights", "float32", "--latent-space", "sd2", "--licence", "MIT"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for kind in PARTS:
        ours, theirs = (ComponentFolder.open(place / kind).manifest for place in (out, bundle))
        assert (ours.weights, ours.origin.licence, ours.origin.source) == ("float32", "MIT", single_file.name)
        assert ours.contract.model_copy(update={"preview": None}) == theirs.contract.model_copy(
            update={"preview": None}
        )
        # torch's outputs of the same weights on the same inputs, but for their rounding
        with np.load(out / kind / "golden-0.npz") as mine, np.load(bundle / kind / "golden-0.npz") as folders:
            for name in folders.files:
                np.testing.assert_allclose(mine[name], folders[name], atol=0.05)


@pytest.mark.parametrize("checkpoint", ["summary"], indirect=True)
def test_a_failure_at_the_last_component_leaves_all_that_was_there(
    checkpoint: Path, bundle: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(bundle, tmp_path / "out"))
    before = contents(out)
    broken = Path(shutil.copytree(checkpoint, tmp_path / "broken"))
    weights = load_file(broken / "unet" / "diffusion_pytorch_model.safetensors")
    weights["conv_in.weight"][:] = float("nan")
    save_file(weights, broken / "unet" / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match="denoiser: is off by nan from torch, at most 0.0001 is allowed"):
        export_bundle(broken, out, BundleOptions("other"))
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_what_is_no_component_is_not_replaced(checkpoint: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(checkpoint, tmp_path / "own"))
    before = contents(own)
    with pytest.raises(ExportError, match="own/text_encoder: is there and is no component"):
        export_bundle(own, own, BundleOptions("mine"))
    assert contents(own) == before


def test_a_bundle_that_cannot_be_a_name_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="My Model"):
        export_bundle(tmp_path, tmp_path / "out", BundleOptions("My Model"))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _round_to_half(pipe: StableDiffusionPipeline) -> None:
    """The components hold the weights in float16: so must what they are compared with."""
    for network in (pipe.vae, pipe.text_encoder, pipe.unet):
        for parameter in network.parameters():
            parameter.data.copy_(parameter.data.half())
