"""Small decoders as components: what they compute, against diffusers, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import load_file, save_file

from components.compatibility import compatible
from components.contract import Kind
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.manifest import Origin
from exporters.component import write_component
from exporters.cost import megabytes, milliseconds
from exporters.decoder import DecoderOptions, export_decoder
from exporters.errors import ExportError
from exporters.vae import latent_space
from exporters.vae_decoder import vae_decoder
from exporters.vae_encoder import vae_encoder
from runtime.golden import check_golden
from runtime.session import Session
from runtime.settings import SessionSettings

pytestmark = [
    pytest.mark.slow,
    # torch and diffusers warn of packages that are not there and of their own deprecations
    pytest.mark.filterwarnings("ignore"),
]
CPU = SessionSettings(provider="cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"
SCALE, SHIFT = 0.18215, 0.25


def tiny(**config: Any) -> AutoencoderTiny:
    """As TAESD in the small: three levels, so that one latent pixel is four pixels wide."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "encoder_block_out_channels": (8, 8, 8),
        "num_encoder_blocks": (0, 1, 1),
        "decoder_block_out_channels": (8, 8, 8),
        "num_decoder_blocks": (1, 1, 0),
    }
    return AutoencoderTiny(**{**shape, **config}).eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("tiny") / "taesd"
    tiny().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The component of the VAE whose latents are decoded."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=SCALE,
        shift_factor=SHIFT,
    ).eval()
    bundle = tmp_path_factory.mktemp("whole")
    space, origin = latent_space(vae, "a test"), Origin(source="a test", exporter={})
    write_component(vae_encoder(vae, space), bundle / "vae_encoder", "float16", origin)
    return write_component(vae_decoder(vae, space), bundle / "vae_decoder", "float16", origin).path


def opened(path: Path) -> tuple[ComponentFolder, Session]:
    folder = ComponentFolder.open(path)
    return folder, Session.open(folder, CPU)


@pytest.mark.parametrize("preview", [False, True])
def test_it_decodes_as_diffusers_does_from_latents_of_the_denoisers_scale(
    checkpoint: Path, whole: Path, tmp_path: Path, preview: bool
) -> None:
    made = export_decoder(
        checkpoint, whole, tmp_path / "small", DecoderOptions(preview=preview, source="a test", licence="MIT")
    )
    vae = AutoencoderTiny.from_pretrained(checkpoint)
    for parameter in vae.parameters():
        parameter.data.copy_(parameter.data.half())
    scaled = 2 * torch.randn(3, 4, 5, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = vae.decode(scaled).sample.numpy()
    _, session = opened(tmp_path / "small")
    pixels = session.run({"latents": (scaled / SCALE + SHIFT).numpy()})["pixels"]
    assert pixels.shape == (3, 3, 20, 28)
    np.testing.assert_allclose(pixels, expected, atol=1e-4)
    assert pixels.std() > 0.01, "an empty picture equals any other"
    assert (made.manifest.origin.source, made.manifest.origin.licence) == ("a test", "MIT")


@pytest.mark.parametrize("preview", [False, True])
def test_it_is_a_whole_component_of_the_same_latent_space(
    checkpoint: Path, whole: Path, tmp_path: Path, preview: bool
) -> None:
    export_decoder(checkpoint, whole, tmp_path / "small", DecoderOptions(preview=preview))
    folder, session = opened(tmp_path / "small")
    folder.verify()
    theirs = ComponentFolder.open(whole).manifest.contract
    ours = folder.manifest.contract
    assert ours.kind == (Kind.PREVIEW_DECODER if preview else Kind.VAE_DECODER)
    assert (ours.inputs, ours.outputs, ours.latent_space) == (theirs.inputs, theirs.outputs, theirs.latent_space)
    assert compatible(ours, ComponentFolder.open(whole.with_name("vae_encoder")).manifest.contract) == []
    assert len(folder.manifest.golden) == 4
    assert all(error.within for error in check_golden(session, folder))
    assert folder.manifest.parity.max_absolute_error <= 1e-4
    assert (folder.manifest.weights, folder.manifest.origin.source) == ("float16", "taesd")


def test_the_encoders_weights_may_be_missing_and_the_decoders_not(
    checkpoint: Path, whole: Path, tmp_path: Path
) -> None:
    weights = load_file(checkpoint / WEIGHTS)
    decoder = {name: tensor for name, tensor in weights.items() if name.startswith("decoder.")}
    folder = rewritten(checkpoint, tmp_path / "alone", decoder)
    export_decoder(folder, whole, tmp_path / "out", DecoderOptions())
    before = contents(tmp_path / "out")
    decoder.pop("decoder.layers.0.bias")
    folder = rewritten(checkpoint, tmp_path / "less", decoder)
    with pytest.raises(ExportError, match="less: its weights or configuration cannot be read"):
        export_decoder(folder, whole, tmp_path / "out", DecoderOptions())
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"latent_channels": 16}, "channels: the decoder's is 16, that of the latent space a test 4"),
        ({"upsampling_scaling_factor": 4}, "downscale: the decoder's is 16, that of the latent space a test 4"),
        ({"out_channels": 4}, "out_channels=4: must be 3"),
        ({"scaling_factor": 0.5}, "scaling_factor=0.5, shift_factor=0.0: must be 1 and 0"),
    ],
)
def test_a_decoder_of_other_latents_is_refused(whole: Path, tmp_path: Path, config: dict[str, Any], words: str) -> None:
    tiny(**config).save_pretrained(tmp_path / "odd")
    with pytest.raises(ExportError) as refused:
        export_decoder(tmp_path / "odd", whole, tmp_path / "out", DecoderOptions())
    assert words in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_class_is_refused(checkpoint: Path, whole: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"_class_name": "AutoencoderKL"}))
    with pytest.raises(ExportError, match="is for AutoencoderKL; AutoencoderTiny can be exported"):
        export_decoder(other, whole, tmp_path / "out", DecoderOptions())


def test_what_is_no_component_is_not_replaced(checkpoint: Path, whole: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(checkpoint, tmp_path / "own"))
    before = contents(own)
    with pytest.raises(ExportError, match="own: is there and is no component"):
        export_decoder(own, whole, own, DecoderOptions())
    assert contents(own) == before


def test_without_the_component_that_it_is_for_there_is_none(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="is this a component folder"):
        export_decoder(checkpoint, tmp_path, tmp_path / "out", DecoderOptions())


def test_the_command_line_exports_a_preview_decoder(checkpoint: Path, whole: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "exporters.decoder", str(checkpoint), "--of", str(whole), "--preview"]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("preview_decoder: ")
    assert ComponentFolder.open(tmp_path / "out").manifest.contract.kind == Kind.PREVIEW_DECODER
    refused = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "is there and is no component" in refused.stderr


def test_the_cost_is_that_of_graph_and_weights(whole: Path) -> None:
    expected = sum((whole / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    assert megabytes(whole) == expected / 1e6
    taken = milliseconds([whole, whole], {"latents": np.zeros((1, 4, 4, 4), np.float32)}, threads=1, rounds=3)
    assert len(taken) == 2
    assert min(taken) > 0


def rewritten(checkpoint: Path, folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    shutil.copytree(checkpoint, folder)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
