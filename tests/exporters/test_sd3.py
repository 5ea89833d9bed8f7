"""SD 3.5's transformer, exported: what it draws, against diffusers."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Img2ImgPipeline, StableDiffusion3Pipeline
from PIL import Image

from components.compatibility import compatible
from components.contract import PARTS, Kind
from components.folder import ComponentFolder
from exporters.adapter_files import Lora
from exporters.bundle import BundleOptions, export_bundle
from exporters.checkpoint import Checkpoint
from exporters.edits import Edits
from exporters.errors import ExportError
from exporters.image_prompt import ImagePromptAdapter
from pipeline.bundle import open_bundle
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError
from pipeline.image_to_image import ImageToImage
from pipeline.jobs import denoise_jobs
from pipeline.request import RequestFields
from pipeline.text_encoder import TextEncoder, third_text_encoder
from pipeline.text_to_image import TextToImage
from runtime.settings import SessionSettings
from tests.differences import MOST_OFF, Measured
from tests.exporters.sd3 import tiny_sd3
from tests.exporters.test_checkpoint import rewrite
from tests.exporters.test_sdxl import quiet

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CPU = SessionSettings(provider="cpu")
PROMPT = "a red caf\u00e9!! red"
NOISE = torch.randn(1, 16, 20, 16, generator=torch.Generator().manual_seed(5))
PICTURE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 32, 3), np.uint8))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("sd3") / "sd3"
    tiny_sd3().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("sd3-bundle") / "sd3"
    # in float32, so that diffusers can draw with the folder as it is
    export_bundle(folder, out, BundleOptions("sd3", "float32"))
    return out


@pytest.fixture(scope="session")
def without_t5(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bundle without the folder of T5, which is all that it takes to do without."""
    out = tmp_path_factory.mktemp("sd3-without-t5") / "sd3"
    out.mkdir()
    for kind in PARTS:
        (out / kind).symlink_to(exported / kind)
    return out


@pytest.fixture(scope="session")
def pipe(folder: Path) -> Any:
    return quiet(StableDiffusion3Pipeline.from_pretrained(folder))


def drawn(pipe: Any, **options: Any) -> Any:
    return pipe(PROMPT, latents=NOISE, height=40, width=32, num_inference_steps=6, output_type="np", **options).images[
        0
    ]


def test_the_contract_says_how_large_latents_may_be(exported: Path) -> None:
    contract = open_bundle(exported, PARTS)[Kind.DENOISER].manifest.contract
    assert contract.latent_limit == 48
    assert contract.flow_schedule is not None
    assert contract.flow_schedule.shift == 3.0
    with pytest.raises(RequestError, match="height=98: must be a whole number between 32 and 96"):
        TextToImage.load(exported, CPU).generate(PROMPT, height=98)


@pytest.mark.parametrize(("guidance", "negative"), [(4.0, "blue"), (4.0, ""), (1.0, "")])
def test_the_picture_is_that_of_diffusers(
    measured: Measured, pipe: Any, exported: Path, guidance: float, negative: str
) -> None:
    expected = drawn(pipe, negative_prompt=negative, guidance_scale=guidance)
    image = TextToImage.load(exported, CPU).generate(
        PROMPT, negative_prompt=negative, guidance=guidance, noise=NOISE.numpy(), height=40, width=32, steps=6
    )
    assert measured.note("text_to_image", "tiny SD 3.5", "StableDiffusion3Pipeline", image, expected) <= MOST_OFF


def test_without_t5_the_picture_is_that_of_diffusers_without_it(
    measured: Measured, pipe: Any, exported: Path, without_t5: Path
) -> None:
    alone = quiet(StableDiffusion3Pipeline(**{**pipe.components, "text_encoder_3": None, "tokenizer_3": None}))
    expected = drawn(alone, negative_prompt="blue", guidance_scale=8.0)
    options: Any = {"negative_prompt": "blue", "guidance": 8.0, "noise": NOISE.numpy(), "steps": 6}
    image = TextToImage.load(without_t5, CPU).generate(PROMPT, height=40, width=32, **options)
    model = "tiny SD 3.5 without T5"
    assert measured.note("text_to_image", model, "StableDiffusion3Pipeline", image, expected) <= MOST_OFF
    whole = TextToImage.load(exported, CPU).generate(PROMPT, height=40, width=32, **options)
    assert np.abs(np.asarray(whole, float) - np.asarray(image, float)).mean() > 2 * MOST_OFF


@pytest.mark.parametrize(("layers", "scale", "start", "end"), [([1], 2.8, 0.01, 0.9), ([0, 2], 1.5, 0.0, 1.0)])
def test_layers_are_skipped_as_in_diffusers(
    measured: Measured, pipe: Any, exported: Path, layers: list[int], scale: float, start: float, end: float
) -> None:
    expected = drawn(
        pipe,
        negative_prompt="blue",
        guidance_scale=4.0,
        skip_guidance_layers=layers,
        skip_layer_guidance_scale=scale,
        skip_layer_guidance_start=start,
        skip_layer_guidance_stop=end,
    )
    options: Any = {"negative_prompt": "blue", "guidance": 4.0, "noise": NOISE.numpy(), "steps": 6}
    chain = TextToImage.load(exported, CPU)
    image = chain.generate(
        PROMPT,
        height=40,
        width=32,
        skip_layers=layers,
        skip_layer_guidance=scale,
        skip_layer_guidance_start=start,
        skip_layer_guidance_end=end,
        **options,
    )
    assert measured.note("skip_layers", "tiny SD 3.5", "StableDiffusion3Pipeline", image, expected) <= MOST_OFF
    without = chain.generate(PROMPT, height=40, width=32, **options)
    assert np.abs(np.asarray(without, float) - np.asarray(image, float)).mean() > 2 * MOST_OFF


def test_rows_that_skip_layers_share_a_run_with_others(exported: Path) -> None:
    kinds = (*PARTS, Kind.THIRD_TEXT_ENCODER)
    folders = open_bundle(exported, kinds)
    chain, denoiser = TextToImage.of(folders, CPU), Denoiser(folders[Kind.DENOISER], CPU)
    skipping: Any = {"skip_layers": [1], "skip_layer_guidance_end": 0.9}
    asked = [RequestFields(prompt=PROMPT, seed=seed, steps=4, **more) for seed, more in ((1, skipping), (2, {}))]
    encoder = TextEncoder(folders[Kind.TEXT_ENCODER], CPU)
    third = third_text_encoder(folders[Kind.THIRD_TEXT_ENCODER], CPU)
    jobs = []
    for fields, with_third in zip(asked, (True, False), strict=True):
        request = chain.check(fields)
        encoded = encoder.encode(request.texts)
        jobs += denoise_jobs(
            request, encoded.beside(third.encode(request.texts)) if with_third else encoded, denoiser.contract
        )
    alone = [denoiser.denoise(job) for job in jobs]
    tracks = [denoiser.begin(job) for job in jobs]
    rows = []
    while not tracks[0].done:
        rows.append([track.rows for track in tracks])
        denoiser.advance(tracks)
    assert rows == [[2, 2], [3, 2], [3, 2], [3, 2]]
    for track, latents in zip(tracks, alone, strict=True):
        assert track.latents.tobytes() == latents.tobytes()


def test_a_picture_is_changed_as_in_diffusers(measured: Measured, pipe: Any, exported: Path) -> None:
    changing = quiet(StableDiffusion3Img2ImgPipeline(**pipe.components))
    options: Any = {"strength": 0.6, "height": PICTURE.height, "width": PICTURE.width}
    expected = changing(
        PROMPT,
        image=PICTURE,
        num_inference_steps=10,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
        **options,
    ).images[0]
    image = ImageToImage.load(exported, CPU).generate(PROMPT, PICTURE, steps=10, guidance=4.0, seed=7, **options)
    reference = "StableDiffusion3Img2ImgPipeline"
    assert measured.note("image_to_image", "tiny SD 3.5", reference, image, expected) <= MOST_OFF


def test_what_is_for_a_unet_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--lora-inputs: is for U-Nets; the transformer of sd3 takes none"):
        export_bundle(folder, tmp_path / "out", BundleOptions("sd3", lora_inputs=True))
    adapter = ImagePromptAdapter(tmp_path / "like.safetensors", {}, {})
    with pytest.raises(ExportError, match="--image-prompt: is for U-Nets; the transformer of sd3 takes none"):
        export_bundle(folder, tmp_path / "out", BundleOptions("sd3", image_prompt=adapter))
    edits = Edits((Lora(tmp_path / "style.safetensors", 1.0, {}, {}, None),))
    with pytest.raises(ExportError, match=r"style.safetensors: is for a U-Net; nothing is merged into sd3"):
        export_bundle(folder, tmp_path / "out", BundleOptions("sd3", edits=edits))


def test_t5_is_left_out_where_that_is_asked_for(folder: Path, tmp_path: Path) -> None:
    assert Checkpoint.open(folder).has_third_text_encoder
    assert not Checkpoint.open(folder, without_t5=True).has_third_text_encoder
    lacking = Path(shutil.copytree(folder, tmp_path / "copy"))
    rewrite("model_index.json", tokenizer_3=[None, None])(lacking)
    with pytest.raises(ExportError, match="tokenizer_3: is missing, and text_encoder_3 is there; --without-t5 leaves"):
        Checkpoint.open(lacking)
    rewrite("model_index.json", text_encoder_3=["transformers", "UMT5EncoderModel"])(lacking)
    with pytest.raises(ExportError, match="text_encoder_3: is UMT5EncoderModel; T5EncoderModel can be exported"):
        Checkpoint.open(lacking)
    assert not Checkpoint.open(lacking, without_t5=True).has_third_text_encoder


def test_an_export_without_t5_takes_an_earlier_one_away(
    folder: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(exported, tmp_path / "out"))

    def export(_checkpoint: Checkpoint, partial: Path, *_others: object) -> None:
        for kind in PARTS:
            shutil.copytree(exported / kind, partial / kind)

    monkeypatch.setattr("exporters.bundle._export", export)
    export_bundle(folder, out, BundleOptions("sd3", without_t5=True))
    assert {path.name for path in out.iterdir()} == {kind.value for kind in PARTS}


def test_t5_fits_the_transformer_that_takes_it_and_no_other(exported: Path) -> None:
    kinds = (*PARTS, Kind.THIRD_TEXT_ENCODER)
    contracts = {kind: folder.manifest.contract for kind, folder in open_bundle(exported, kinds).items()}
    third, denoiser = contracts[Kind.THIRD_TEXT_ENCODER], contracts[Kind.DENOISER]
    assert third.outputs[0].shape == ("batch", 256, 48)
    assert "third_hidden_states" not in denoiser.required_inputs
    other = third.model_copy(update={"outputs": (third.outputs[0].model_copy(update={"shape": ("batch", 128, 48)}),)})
    [mismatch] = compatible(other, denoiser)
    assert mismatch == "third_hidden_states dimension 1: third_text_encoder gives 128, denoiser takes 256"
    inputs = tuple(spec for spec in denoiser.inputs if not spec.optional)
    [mismatch] = compatible(third, denoiser.model_copy(update={"inputs": inputs}))
    assert mismatch == "third_hidden_states: third_text_encoder has it, denoiser has not"


def test_t5_reads_texts_as_its_own_tokenizer(pipe: Any, exported: Path) -> None:
    encoder = third_text_encoder(ComponentFolder.open(exported / Kind.THIRD_TEXT_ENCODER), CPU)
    for text in (PROMPT, "", "red, " * 200):
        (expected,) = pipe._get_t5_prompt_embeds(text).detach().numpy()
        encoded = encoder.encode([text])
        np.testing.assert_allclose(encoded.arrays["third_hidden_states"][0], expected, atol=1e-5)
        assert encoded.truncated == (len(text) > 256,)
