import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from components.contract import NoiseSchedule
from exporters.checkpoint import Checkpoint
from exporters.errors import ExportError

Change = Callable[[Path], None]


def rewrite(name: str, **changes: Any) -> Change:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **changes}))

    return change


def pickle(folder: Path) -> None:
    (folder / "unet/diffusion_pytorch_model.safetensors").rename(folder / "unet/diffusion_pytorch_model.bin")


def one_network(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    (folder / "unet" / "config.json").rename(folder / "config.json")


def one_encoder(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    (folder / "text_encoder" / "config.json").rename(folder / "config.json")


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def test_the_schedule_is_the_checkpoints(checkpoint: Path) -> None:
    schedule = Checkpoint.open(checkpoint).schedule()
    assert isinstance(schedule, NoiseSchedule)
    expected = {
        "sd1": ("epsilon", "scaled_linear", 0.00085, "leading", False),
        "sd2": ("v_prediction", "scaled_linear", 0.00085, "leading", False),
        "summary": ("v_prediction", "squaredcos_cap_v2", 0.0001, "trailing", True),
    }[checkpoint.name]
    found = (
        schedule.prediction_type,
        schedule.beta_schedule,
        schedule.beta_start,
        schedule.timestep_spacing,
        schedule.set_alpha_to_one,
    )
    assert found == expected
    assert schedule.steps_offset == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "model_index.json").unlink(), "model_index.json: cannot be read"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "model_index.json: is not JSON"),
        (lambda folder: (folder / "model_index.json").write_text("[]"), "model_index.json: is not an object"),
        (
            rewrite("model_index.json", _class_name="FluxPipeline"),
            "copy: is for FluxPipeline; StableDiffusionPipeline.* can be exported",
        ),
        (
            one_network,
            "copy: is UNet2DConditionModel alone; the folder of a whole StableDiffusionPipeline.* can be exp",
        ),
        (one_encoder, "copy: is CLIPTextModel alone; the folder of a whole StableDiffusionPipeline"),
        (rewrite("model_index.json", unet=["diffusers", "Other"]), "unet: is Other; UNet2DConditionModel"),
        (rewrite("model_index.json", unet=None), "unet: is None"),
        (lambda folder: shutil.rmtree(folder / "vae"), "vae: no such folder"),
        (lambda folder: (folder / "vae/diffusion_pytorch_model.safetensors").unlink(), "has no .safetensors file"),
        (pickle, "unet: diffusion_pytorch_model.bin is a pickle"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_name(copy: Path, change: Change, words: str) -> None:
    change(copy)
    with pytest.raises(ExportError, match=words):
        Checkpoint.open(copy)


def test_a_walk_that_no_contract_can_say_is_refused(copy: Path) -> None:
    rewrite("scheduler/scheduler_config.json", trained_betas=[0.1, 0.2])(copy)
    with pytest.raises(ExportError, match="trained_betas=.*not supported"):
        Checkpoint.open(copy).schedule()


def test_damaged_weights_are_one_sentence(copy: Path) -> None:
    file = copy / "unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ExportError, match="unet: its weights or configuration cannot be read"):
        Checkpoint.open(copy).unet()


def test_files_of_the_half_variant_alone_are_read(copy: Path) -> None:
    file = copy / "unet/diffusion_pytorch_model.safetensors"
    halves = {name: tensor.half() for name, tensor in load_file(file).items()}
    save_file(halves, file.with_name("diffusion_pytorch_model.fp16.safetensors"), {"format": "pt"})
    file.unlink()
    unet = Checkpoint.open(copy).unet()
    for name, tensor in unet.state_dict().items():
        assert (tensor == halves[name].float()).all(), name
