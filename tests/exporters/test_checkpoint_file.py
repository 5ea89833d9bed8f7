"""Single-file checkpoints: read offline, they are what the folder of the same weights is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from components.contract import NoiseSchedule
from exporters.checkpoint import Checkpoint
from exporters.clip_vocabulary import clip_tokenizer
from exporters.errors import ExportError
from exporters.families import FAMILIES, Part, detect
from exporters.original_weights import load_original
from exporters.t5_vocabulary import t5_tokenizer
from tests.exporters import original_names
from tests.exporters.sd3 import tiny_sd3
from tests.exporters.sdxl import tiny_base, tiny_refiner

CLASSES: dict[str, Any] = {
    "UNet2DConditionModel": UNet2DConditionModel,
    "AutoencoderKL": AutoencoderKL,
    "SD3Transformer2DModel": SD3Transformer2DModel,
    "CLIPTextModel": CLIPTextModel,
    "CLIPTextModelWithProjection": CLIPTextModelWithProjection,
    "T5EncoderModel": T5EncoderModel,
}
# as published; papers and the models' cards round them
NUMBERS = {
    "unet-sd1": 859_520_964,
    "unet-sd2": 865_910_724,
    "unet-x4": 473_398_020,
    "unet-sdxl": 2_567_463_684,
    "unet-sdxl-refiner": 2_259_526_660,
    "vae-sd1": 83_653_863,
    "vae-x4": 55_325_927,
    "vae-sdxl": 83_653_863,
    "vae-sd3": 83_819_683,
    "clip-l": 123_060_480,
    "open-clip-h": 340_387_840,
    "open-clip-g": 694_659_840,
    "t5-xxl": 4_762_310_656,
    "mmdit-sd3-medium": 2_028_328_000,
    "mmdit-sd3.5-medium": 2_243_171_520,
    "mmdit-sd3.5-large": 8_056_627_520,
}


@pytest.fixture(scope="module")
def empty() -> dict[tuple[str, str], torch.nn.Module]:
    """The networks of all families without their weights, by class and configuration."""
    found = {}
    with torch.device("meta"):
        for family in FAMILIES.values():
            for part in family.parts.values():
                key = (part.network, repr(part))
                if key not in found:
                    found[key] = _network(part)
    return found


def _network(part: Part) -> torch.nn.Module:
    network = CLASSES[part.network]
    if part.network.startswith("CLIP"):
        module: torch.nn.Module = network(CLIPTextConfig.from_pretrained(part.config))
    elif part.network == "T5EncoderModel":
        module = network(T5Config.from_pretrained(part.config))
    else:
        module = network.from_config({**json.loads((part.config / "config.json").read_text()), **part.changes})
    return module


def test_the_configurations_have_the_published_numbers_of_parameters(
    empty: dict[tuple[str, str], torch.nn.Module],
) -> None:
    for family in FAMILIES.values():
        for part in family.parts.values():
            if part.changes.get("in_channels", 4) != 4:
                continue
            if (part.network, part.config.name) == ("CLIPTextModelWithProjection", "clip-l"):
                continue
            module = empty[part.network, repr(part)]
            assert sum(map(Tensor.numel, module.parameters())) == NUMBERS[part.config.name], part.config.name


def test_a_family_is_told_by_its_tensors(empty: dict[tuple[str, str], torch.nn.Module]) -> None:
    for family in FAMILIES.values():
        name = "unet" if "unet" in family.parts else "transformer"
        part = family.parts[name]
        weights = original_names.network(name, empty[part.network, repr(part)])
        shapes = {key: tuple(weight.shape) for key, weight in weights.items()}
        assert detect(shapes) is family


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"conv_in.weight": (320, 4, 3, 3)}, "holds no denoiser .*: known are sd1, .* sd3.5-large"),
        (
            {"model.diffusion_model.input_blocks.0.0.weight": (64, 4, 3, 3)},
            "a U-Net of width 64 that takes 4 channels and conditioning 0 wide: known are sd1,",
        ),
        (
            {"model.diffusion_model.joint_blocks.0.x_block.attn.proj.weight": (128, 128)},
            "a transformer of width 128 with positions for 0 by 0 patches: known are sd1,",
        ),
    ],
)
def test_an_unknown_geometry_is_named(shapes: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(ExportError, match=words):
        detect(shapes)


def test_a_pickle_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(ExportError, match="model.ckpt is a pickle, which can run code"):
        Checkpoint.open(tmp_path / "model.ckpt")
    with pytest.raises(ExportError, match="model.gguf: is neither a diffusers folder nor a .safetensors file"):
        Checkpoint.open(tmp_path / "model.gguf")
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(ExportError, match="model.safetensors: cannot be read"):
        Checkpoint.open(tmp_path / "model.safetensors")


def sparse(path: Path, family: str, metadata: dict[str, str]) -> Path:
    """A file with a family's tensors, all of them empty space on the disk."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    place = 0
    names = {
        "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
        "first_stage_model.quant_conv.bias": (8,),
        "cond_stage_model.model.positional_embedding": (77, 1024),
    }
    assert family == "sd2"
    for name, shape in names.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    encoded = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + place)
    return path


def test_how_sd2_predicts_is_asked_for_where_the_file_does_not_say(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="sd2: does the denoiser predict epsilon or v_prediction"):
        Checkpoint.open(sparse(tmp_path / "silent.safetensors", "sd2", {}))
    told = sparse(tmp_path / "told.safetensors", "sd2", {"modelspec.prediction_type": "v"})
    for checkpoint in (Checkpoint.open(told), Checkpoint.open(tmp_path / "silent.safetensors", None, "v_prediction")):
        schedule = checkpoint.schedule()
        assert isinstance(schedule, NoiseSchedule)
        assert schedule.prediction_type == "v_prediction"
    with pytest.raises(ExportError, match="unet: its tensors are not those of sd2"):
        Checkpoint.open(told).unet()


def test_the_tokenizer_is_that_of_open_clip() -> None:
    """What the `SimpleTokenizer` of open_clip 3.3.0 gives."""
    tokenizer = clip_tokenizer("<|endoftext|>")
    expected = {
        "a photo of a cat": [320, 1125, 539, 320, 2368],
        "An astronaut riding a horse, 4k, trending on ArtStation!!": [
            *(550, 18376, 6765, 320, 4558, 267, 275, 330, 267, 6087, 525, 1486, 2631, 748)
        ],
        "caf\u00e9 \N{RED APPLE} na\u00efve \u6f22\u5b57": [15304, 32069, 1097, 35689, 563, 162, 120, 95, 35751, 501],
        "it's 1,234.56 o'clock; we've x_y-z #hash @you": [
            *(585, 568, 272, 267, 273, 274, 275, 269, 276, 277, 334, 262, 6716, 282),
            *(649, 1200, 343, 318, 344, 268, 345, 258, 19199, 287, 592),
        ],
        "supercalifragilisticexpialidocious   \t\n two": [1642, 2857, 13093, 2076, 5868, 26850, 835, 639, 38466, 1237],
        "\u00c5ngstr\u00f6m \u0416\u0437 \u03b1\u03b2": [
            *(23176, 10352, 807, 7255, 332, 140, 114, 140, 371, 138, 109, 138, 366)
        ],
    }
    for text, tokens in expected.items():
        assert tokenizer(text).input_ids == [49406, *tokens, 49407]
    assert len(tokenizer) == 49408
    for pad, number in (("<|endoftext|>", 49407), ("!", 0)):
        assert clip_tokenizer(pad)("cat", padding="max_length").input_ids[-1] == number


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("checkpoint", ["sd1", "sd2"], indirect=True)
def test_every_weight_is_where_the_folder_has_it(checkpoint: Path, single_file: Path) -> None:
    folder, file = Checkpoint.open(checkpoint), Checkpoint.open(single_file, checkpoint)
    for theirs, ours in (
        (folder.unet(), file.unet()),
        (folder.vae(), file.vae()),
        *zip(folder.text_encoders(), file.text_encoders(), strict=True),
    ):
        expected, found = theirs.state_dict(), ours.state_dict()
        assert list(found) == list(expected)
        for name, weight in expected.items():
            assert torch.equal(found[name], weight), name


SDXL_TEXTS = {
    "text_encoder": "conditioner.embedders.0.transformer.",
    "text_encoder_2": "conditioner.embedders.1.model.",
}
SD3_TEXTS = {
    "text_encoder": "text_encoders.clip_l.transformer.",
    "text_encoder_2": "text_encoders.clip_g.transformer.",
    "text_encoder_3": "text_encoders.t5xxl.transformer.",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("tiny", "prefixes"),
    [
        (tiny_base, SDXL_TEXTS),
        (tiny_refiner, {"text_encoder_2": "conditioner.embedders.0.model."}),
        (tiny_sd3, SD3_TEXTS),
    ],
)
def test_every_weight_of_two_encoders_is_where_the_pipeline_has_it(
    tmp_path: Path, tiny: Callable[[], Any], prefixes: dict[str, str]
) -> None:
    pipe = tiny()
    pipe.save_pretrained(tmp_path / "folder")
    save_file(original_names.single_file(pipe, prefixes), tmp_path / "file.safetensors")
    file = Checkpoint.open(tmp_path / "file.safetensors", tmp_path / "folder")
    encoders = [encoder for name in prefixes if (encoder := getattr(pipe, name)) is not None]
    denoiser = file.transformer() if file.has_transformer else file.unet()
    pairs = [(pipe.transformer if file.has_transformer else pipe.unet, denoiser), (pipe.vae, file.vae())]
    third = [file.third_text_encoder()] if file.has_third_text_encoder else []
    for theirs, ours in (*pairs, *zip(encoders, [*file.text_encoders(), *third], strict=True)):
        expected, found = theirs.state_dict(), ours.state_dict()
        assert list(found) == list(expected)
        for name, weight in expected.items():
            one = file.has_transformer and ours is not denoiser and name == "text_projection.weight"
            if one and weight.shape[0] == weight.shape[1]:
                assert torch.equal(found[name], torch.eye(len(weight)))
            else:
                assert torch.equal(found[name], weight), name


@pytest.mark.filterwarnings("ignore")
def test_t5_may_be_in_a_file_or_not(tmp_path: Path) -> None:
    pipe = tiny_sd3()
    pipe.save_pretrained(tmp_path / "folder")
    without = {name: prefix for name, prefix in SD3_TEXTS.items() if name != "text_encoder_3"}
    save_file(original_names.single_file(pipe, without), tmp_path / "without.safetensors")
    assert not Checkpoint.open(tmp_path / "without.safetensors", tmp_path / "folder").has_third_text_encoder
    tensors = original_names.single_file(pipe, SD3_TEXTS)
    save_file(tensors, tmp_path / "with.safetensors")
    file = Checkpoint.open(tmp_path / "with.safetensors", tmp_path / "folder")
    assert file.has_third_text_encoder
    assert file.third_tokenizer()("a red").input_ids == pipe.tokenizer_3("a red").input_ids
    assert not Checkpoint.open(
        tmp_path / "with.safetensors", tmp_path / "folder", without_t5=True
    ).has_third_text_encoder
    less = {name: tensor for name, tensor in tensors.items() if not name.endswith("t5xxl.transformer.shared.weight")}
    save_file(less, tmp_path / "less.safetensors")
    with pytest.raises(
        ExportError, match=r"text_encoder_3: its tensors are not those of folder .*shared.weight is miss"
    ):
        Checkpoint.open(tmp_path / "less.safetensors", tmp_path / "folder").third_text_encoder()


def test_t5s_tokenizer_is_the_published_one() -> None:
    tokenizer = t5_tokenizer()
    # what transformers' documentation, the T5 paper's code and sentencepiece give for these
    assert tokenizer("The house is wonderful.").input_ids == [37, 629, 19, 1627, 5, 1]
    assert tokenizer("translate English to German: That is good.").input_ids == [
        13959,
        1566,
        12,
        2968,
        10,
        466,
        19,
        207,
        5,
        1,
    ]
    assert tokenizer("Studies have been shown that owning a dog is good for you").input_ids == [
        *(6536, 43, 118, 2008, 24, 293, 53, 3, 9, 1782, 19, 207, 21, 25, 1)
    ]
    assert tokenizer("a \ufb01ne caf\u00e9\n").input_ids == tokenizer("a fine caf\u00e9").input_ids
    assert len(tokenizer) == 32100


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("checkpoint", ["sd1"], indirect=True)
def test_weights_too_few_or_too_many_are_refused(checkpoint: Path) -> None:
    unet = Checkpoint.open(checkpoint).unet()
    weights = original_names.unet(unet.state_dict(), 1)
    config = checkpoint / "unet"
    assert load_original(UNet2DConditionModel, config, {}, weights) is not None
    extra = {**weights, "model.diffusion_model.input_blocks.9.0.in_layers.0.bias": torch.zeros(4)}
    with pytest.raises(ValueError, match=r"the file has \d+ numbers, the network \d+"):
        load_original(UNet2DConditionModel, config, {}, extra)
    less = {name: weight for name, weight in weights.items() if not name.endswith("out.2.bias")}
    with pytest.raises(ValueError, match="the network is missing"):
        load_original(UNet2DConditionModel, config, {}, less)
