"""LoRAs and textual inversions merged at export, against diffusers' own loaders on the same files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from components.contract import PARTS, Kind
from components.folder import ComponentFolder
from exporters.adapter_files import Lora, TextualInversion
from exporters.checkpoint import Checkpoint
from exporters.edits import EditedCheckpoint, Edits
from exporters.errors import ExportError
from pipeline.text_encoder import TextEncoder
from pipeline.text_to_image import TextToImage
from runtime.settings import SessionSettings
from tests.differences import MOST_OFF, Measured
from tests.exporters.adapters import rounded_to_half, save_kohya, save_peft
from tests.exporters.conftest import saved_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CPU = SessionSettings(provider="cpu")
PROMPT = "a red <cat>, <dog>"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_pipeline("sd1", tmp_path_factory.mktemp("edited") / "sd1")


@pytest.fixture(scope="module")
def files(checkpoint: Path) -> dict[str, Path]:
    pipe = StableDiffusionPipeline.from_pretrained(checkpoint)
    folder = checkpoint.parent
    found = {
        "kohya": save_kohya(folder / "kohya.safetensors", pipe.unet, {"te_text_model": pipe.text_encoder}),
        "peft": save_peft(folder / "peft.safetensors", pipe.unet),
        "cat": folder / "cat.safetensors",
        "dog": folder / "dog.safetensors",
    }
    generator = torch.Generator().manual_seed(4)
    width = pipe.text_encoder.config.hidden_size
    save_file({"<cat>": torch.randn(width, generator=generator)}, found["cat"])
    # as A1111 writes it, with no word of its own
    save_file({"emb_params": torch.randn(3, width, generator=generator)}, found["dog"])
    return found


@pytest.fixture(scope="module")
def pipe(checkpoint: Path, files: dict[str, Path]) -> StableDiffusionPipeline:
    """With everything loaded by diffusers itself."""
    pipe = StableDiffusionPipeline.from_pretrained(checkpoint)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(str(files["kohya"]), adapter_name="kohya")
    pipe.load_lora_weights(str(files["peft"]), adapter_name="peft")
    pipe.set_adapters(["kohya", "peft"], [0.8, 1.5])
    pipe.fuse_lora(adapter_names=["kohya", "peft"])
    pipe.unload_lora_weights()
    pipe.load_textual_inversion(load_file(files["cat"]))
    pipe.load_textual_inversion(load_file(files["dog"]), token="<dog>")
    return rounded_to_half(pipe)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("edited_bundle") / "out"
    merged = [f"--lora={files['kohya']}:0.8", f"--lora={files['peft']}:1.5"]
    words = [f"--textual-inversion={files['cat']}", f"--textual-inversion={files['dog']}:<dog>"]
    command = [sys.executable, "-m", "exporters", str(checkpoint), "--bundle", "edited", "--out", str(out)]
    done = subprocess.run([*command, *merged, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def theirs(pipe: StableDiffusionPipeline, noise: torch.Tensor, prompt: str) -> npt.NDArray[np.float64]:
    drawn: npt.NDArray[np.float64] = pipe(
        prompt, latents=noise, num_inference_steps=7, guidance_scale=4.0, output_type="np"
    ).images[0]
    return drawn


def test_the_picture_is_that_of_diffusers_with_the_same_files(
    measured: Measured, checkpoint: Path, pipe: StableDiffusionPipeline, bundle: Path
) -> None:
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    chain = TextToImage.load(bundle, CPU)
    image = chain.generate(PROMPT, noise=noise.numpy(), steps=7, guidance=4.0, sampler="ddim")
    model = "tiny sd1, LoRAs and words merged"
    assert (
        measured.note("text_to_image", model, "StableDiffusionPipeline", image, theirs(pipe, noise, PROMPT)) <= MOST_OFF
    )
    plain = StableDiffusionPipeline.from_pretrained(checkpoint)
    plain.scheduler = pipe.scheduler
    plain.set_progress_bar_config(disable=True)
    off = np.abs(theirs(pipe, noise, "a red") - theirs(plain, noise, "a red")).mean()
    assert off > 2 / 255, "what is merged makes no difference"


def test_new_words_are_the_tokens_and_vectors_of_diffusers(pipe: StableDiffusionPipeline, bundle: Path) -> None:
    encoder = TextEncoder(ComponentFolder.open(bundle / Kind.TEXT_ENCODER), CPU)
    for prompt in (PROMPT, "<dog><cat> red", "<dog>, a", "<dog>_1 alone"):
        with torch.no_grad():
            expected, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
        np.testing.assert_allclose(encoder.encode([prompt]).arrays["hidden_states"], expected.numpy(), atol=1e-4)
    assert encoder.encode(["<dog>"]).tokens == (3,)
    assert encoder.encode(["(<dog>:1.2)"], weighting="a1111").tokens == (3,)


def test_component_json_says_what_was_merged(bundle: Path) -> None:
    for kind in PARTS:
        edits = ComponentFolder.open(bundle / kind).manifest.origin.edits
        assert [(edit.kind, edit.file, edit.scale, edit.token) for edit in edits] == [
            ("lora", "kohya.safetensors", 0.8, None),
            ("lora", "peft.safetensors", 1.5, None),
            ("textual_inversion", "cat.safetensors", None, "<cat>"),
            ("textual_inversion", "dog.safetensors", None, "<dog>"),
        ]


def test_a_pickle_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "style.pt"
    torch.save({"a": torch.zeros(1)}, file)
    with pytest.raises(ExportError, match=r"style.pt is a pickle"):
        Lora.read(file)
    with pytest.raises(ExportError, match=r"style.pt is a pickle"):
        TextualInversion.read(file)


def unet_with(lora: Path, checkpoint: Path) -> None:
    EditedCheckpoint.of(Checkpoint.open(checkpoint), Edits((Lora.read(lora),))).unet()


def test_a_lora_of_another_family_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    other = {f"{layer}.lora_A.weight": torch.zeros(2, 640), f"{layer}.lora_B.weight": torch.zeros(640, 2)}
    missing = {name.replace("transformer_blocks.0", "transformer_blocks.9"): part for name, part in other.items()}
    transformer = {name.replace("unet.", "transformer."): part for name, part in other.items()}
    for state, why in (
        (other, r"takes 640 channels and gives 640 there, in this checkpoint its weight is \[16, 16\]"),
        (missing, "it adapts down_blocks.0.attentions.0.transformer_blocks.9.attn1.to_q, which .* unet lacks"),
        (transformer, "is no LoRA of a Stable Diffusion checkpoint: it has transformer.down_blocks"),
    ):
        save_file(state, tmp_path / "style.safetensors")
        with pytest.raises(ExportError, match=f"style.safetensors: .*{why}"):
            unet_with(tmp_path / "style.safetensors", checkpoint)


def test_what_is_no_lora_and_no_new_word_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "file.safetensors"
    save_file({"lora_unet_down_blocks_0.dora_scale": torch.zeros(1)}, file)
    with pytest.raises(ExportError, match=r"file.safetensors: is a DoRA"):
        Lora.read(file)
    save_file({"one": torch.zeros(8), "two": torch.zeros(8)}, file)
    with pytest.raises(ExportError, match="vectors of one word alone"):
        TextualInversion.read(file)
    for token, width in (("<cat>", 8), ("red</w>", 16)):
        save_file({"one": torch.zeros(width)}, file)
        edits = Edits(inversions=(TextualInversion.read(file, token),))
        with pytest.raises(ExportError, match=r"file.safetensors: does not fit the text encoder"):
            EditedCheckpoint.of(Checkpoint.open(checkpoint), edits).text_encoders()
    file.write_bytes(b"nothing")
    with pytest.raises(ExportError, match=r"file.safetensors: cannot be read as safetensors"):
        Lora.read(file)
