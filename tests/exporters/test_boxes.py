"""Boxes with phrases, exported and run, against StableDiffusionGLIGENPipeline on the same noise."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionGLIGENPipeline,
    StableDiffusionPipeline,
)
from diffusers.models.attention import GatedSelfAttentionDense
from PIL import Image

from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import DenoiseJob, ImageRequest, Snapshot
from exporters.boxes import box_specs
from exporters.errors import ExportError
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError
from pipeline.jobs import denoise_jobs
from pipeline.request import RequestFields, RequestRules, check_request
from pipeline.text_encoder import TextEncoder
from pipeline.text_to_image import TextToImage
from registry.settings import RegistrySettings
from services.denoiser import DenoiserDeployment, DenoiserSettings
from services.messages import Terms, WalkOrder
from services.rollout.last_good import live_model
from services.rollout.settings import RolloutSettings
from services.rollout.start import begin
from services.stage_args import DenoiserArgs, TextEncoderArgs
from services.text_encoder import TextEncoderDeployment, TextEncoderSettings
from tests.differences import MOST_OFF, Measured
from tests.exporters.conftest import FAMILIES, tiny_pipeline
from tests.exporters.seeing import CPU, assert_a_gate_draws, export
from tests.services.conftest import FakeRollout

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

REFERENCE = "StableDiffusionGLIGENPipeline"
# of several lengths, which diffusers pads
BOXES: list[dict[str, Any]] = [
    {"phrase": "a red caf\u00e9", "box": [0.0, 0.1, 0.5, 0.6]},
    {"phrase": "re", "box": [0.4, 0.25, 1, 1]},
    {"phrase": "a bed and a bread", "box": [0.1, 0.2, 0.3, 0.9]},
]
PROMPT, NEGATIVE, STEPS = "a red caf\u00e9", "a bed", 7


def boxed(**unet: Any) -> StableDiffusionGLIGENPipeline:
    """A tiny pipeline in which boxes weigh enough to be seen, and those that are not there are no zeros."""
    small: dict[str, Any] = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("UpBlock2D",)}
    small |= {"block_out_channels": (16,), "attention_type": "gated"}
    parts = tiny_pipeline(FAMILIES["sd1"], **{**small, **unet}).components
    parts["scheduler"] = DDIMScheduler.from_config(parts["scheduler"].config, clip_sample=False)
    torch.manual_seed(3)
    layers = parts["unet"].modules()
    for layer in [layer for layer in layers if isinstance(layer, GatedSelfAttentionDense)]:
        layer.alpha_attn.data.fill_(1.5)
        layer.alpha_dense.data.fill_(0.8)
        for projection in (layer.linear, layer.attn.to_q, layer.attn.to_k, layer.attn.to_out[0]):
            projection.weight.data.mul_(4)
    if (position := getattr(parts["unet"], "position_net", None)) is not None:
        for name, parameter in position.named_parameters():
            if "null" in name:
                parameter.data.normal_()
            elif "weight" in name:
                parameter.data.mul_(4)
    del parts["image_encoder"]
    return StableDiffusionGLIGENPipeline(**parts, requires_safety_checker=False)


@pytest.fixture(scope="module")
def pipe() -> Any:
    pipe = boxed()
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(boxed(), tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="module")
def chain(bundle: Path) -> TextToImage:
    return TextToImage.load(bundle, CPU)


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))


def theirs(
    pipe: Any, noise: torch.Tensor, boxes: list[dict[str, Any]], beta: float, guidance: float = 4.0
) -> npt.NDArray[np.float64]:
    drawn: npt.NDArray[np.float64] = pipe(
        PROMPT,
        negative_prompt=NEGATIVE,
        latents=noise,
        gligen_phrases=[one["phrase"] for one in boxes],
        gligen_boxes=[one["box"] for one in boxes],
        gligen_scheduled_sampling_beta=beta,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        output_type="np",
    ).images[0]
    return drawn


def ours(chain: TextToImage, noise: torch.Tensor, guidance: float = 4.0, **options: Any) -> Image.Image:
    return chain.generate(
        PROMPT,
        negative_prompt=NEGATIVE,
        noise=noise.numpy(),
        steps=STEPS,
        guidance=guidance,
        **{"sampler": "ddim", **options},
    )


@pytest.mark.parametrize("boxes", [BOXES, BOXES[1:2], BOXES * 10])
@pytest.mark.parametrize("beta", [0.3, 1.0])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_picture_is_that_of_diffusers(
    measured: Measured,
    pipe: Any,
    chain: TextToImage,
    noise: torch.Tensor,
    boxes: list[dict[str, Any]],
    beta: float,
    guidance: float,
) -> None:
    expected = theirs(pipe, noise, boxes, beta, guidance)
    image = ours(chain, noise, guidance, boxes=boxes, boxes_end=beta)
    assert measured.note("boxes", "tiny sd1", REFERENCE, image, expected) <= MOST_OFF


def test_the_share_is_of_evaluations_where_a_step_has_more_than_one(
    measured: Measured, pipe: Any, chain: TextToImage, noise: torch.Tensor
) -> None:
    own = pipe.scheduler
    # what a saved checkpoint says, defaults as well
    config = {name: value for name, value in own.config.items() if not name.startswith("_")}
    try:
        for sampler, scheduler in (("pndm", PNDMScheduler), ("heun", HeunDiscreteScheduler)):
            pipe.scheduler = scheduler.from_config({**config, "skip_prk_steps": True})
            expected = theirs(pipe, noise, BOXES, 0.3)
            image = ours(chain, noise, boxes=BOXES, boxes_end=0.3, sampler=sampler)
            assert measured.note("boxes", f"tiny sd1, {sampler}", REFERENCE, image, expected) <= MOST_OFF
    finally:
        pipe.scheduler = own


def test_without_boxes_it_is_the_plain_pipeline(
    measured: Measured, pipe: Any, chain: TextToImage, noise: torch.Tensor
) -> None:
    plain = StableDiffusionPipeline(**pipe.components, image_encoder=None, requires_safety_checker=False)
    plain.set_progress_bar_config(disable=True)
    # whether a gated attention is on is a state of the U-Net, not of the pipeline
    pipe.enable_fuser(True)
    expected = plain(
        PROMPT,
        negative_prompt=NEGATIVE,
        latents=noise,
        num_inference_steps=STEPS,
        guidance_scale=4.0,
        output_type="np",
    ).images[0]
    model = "tiny sd1, boxes left out"
    image = ours(chain, noise)
    assert measured.note("text_to_image", model, "StableDiffusionPipeline", image, expected) <= MOST_OFF
    nothing: tuple[dict[str, Any], ...] = ({"boxes": []}, {"boxes": BOXES, "boxes_end": 0.0})
    for without in nothing:
        np.testing.assert_array_equal(ours(chain, noise, **without), image)


def test_each_phrase_has_its_own_box_and_their_order_says_nothing(chain: TextToImage, noise: torch.Tensor) -> None:
    def drawn(boxes: list[dict[str, Any]]) -> npt.NDArray[np.float64]:
        return np.asarray(ours(chain, noise, boxes=boxes, boxes_end=1.0), float)

    first, second, third = BOXES
    image = drawn(BOXES)
    swapped = [{**first, "box": second["box"]}, {**second, "box": first["box"]}, third]
    assert np.abs(drawn(swapped) - image).mean() > 2
    assert np.abs(drawn([third, first, second]) - image).mean() < 0.1


def test_rows_with_and_without_boxes_share_a_run_and_have_the_bytes_that_they_have_alone(bundle: Path) -> None:
    encoder = TextEncoder(ComponentFolder.open(bundle / Kind.TEXT_ENCODER), CPU)
    denoiser = Denoiser(ComponentFolder.open(bundle / Kind.DENOISER), CPU)

    def job(seed: int, **fields: Any) -> DenoiseJob:
        asked = RequestFields(prompt=PROMPT, seed=seed, steps=4, width=32, height=32, sampler="ddim", **fields)
        request = check_request(asked, denoiser.contract, RequestRules())
        encoded = encoder.encode(request.texts, phrases=request.phrases)
        return denoise_jobs(request, encoded, denoiser.contract)[0]

    jobs = [
        job(1),
        job(2, boxes=BOXES, boxes_end=1.0),
        job(3, boxes=BOXES[:1], boxes_end=0.5),
        job(4, boxes=BOXES[1:], boxes_end=0.25, guidance=1.0),
    ]
    tracks = [denoiser.begin(job) for job in jobs]
    for _ in range(4):
        denoiser.advance(tracks)
    for track, job_alone in zip(tracks, jobs, strict=True):
        np.testing.assert_array_equal(track.latents, denoiser.denoise(job_alone))
    # gone on with elsewhere, it knows where its boxes end
    track = denoiser.begin(jobs[2])
    estimates = []
    for _ in range(3):
        denoiser.advance([track])
        assert track.estimate is not None
        estimates.append(track.estimate)
    again = denoiser.begin(jobs[2], Snapshot(tuple(estimates)))
    denoiser.advance([again])
    np.testing.assert_array_equal(again.latents, tracks[2].latents)


def test_a_gate_draws_without_boxes(bundle: Path) -> None:
    assert_a_gate_draws(bundle)


def test_phrases_are_encoded_beside_texts_and_kept(bundle: Path, pipe: Any) -> None:
    encoder = TextEncoder(ComponentFolder.open(bundle / Kind.TEXT_ENCODER), CPU)
    phrases = [one["phrase"] for one in BOXES]
    encoded = encoder.encode((PROMPT, NEGATIVE), phrases=phrases, weighting="a1111", clip_skip=2)
    with torch.no_grad():
        expected = pipe.text_encoder(**pipe.tokenizer(phrases, padding=True, return_tensors="pt")).pooler_output
    assert encoded.phrases is not None
    np.testing.assert_allclose(encoded.phrases, expected.numpy(), atol=1e-5)
    assert encoded.cached == 0
    # a phrase is not a prompt of the same letters
    again = encoder.encode((PROMPT, phrases[1]), phrases=phrases[::-1], weighting="a1111", clip_skip=2)
    assert again.cached == 1 + len(phrases)
    np.testing.assert_array_equal(again.phrases, encoded.phrases[::-1])
    assert encoder.encode((PROMPT,)).phrases is None
    with pytest.raises(RequestError, match=r"^boxes\.1\.phrase: must have at most 75 tokens$"):
        encoder.encode((PROMPT,), phrases=["re", "re " * 76])


def test_the_servers_stages_walk_with_boxes(bundle: Path, tmp_path: Path) -> None:
    registry = RegistrySettings(home=tmp_path)
    start, _ = begin(RolloutSettings(bundle="tiny", folder=bundle, registry=registry))
    live = live_model("tiny", start.rollout, start.contracts)
    rollout: Any = FakeRollout(live)
    asked = RequestFields(prompt=PROMPT, seed=5, steps=4, width=32, height=32, boxes=BOXES, boxes_end=0.5)
    request = check_request(asked, live.contracts[Kind.DENOISER], RequestRules())

    async def latents(what: ImageRequest) -> Any:
        encoder: Any = TextEncoderDeployment.__new__(TextEncoderDeployment)
        settings = TextEncoderSettings(registry=registry, args=TextEncoderArgs(threads=1))
        await TextEncoderDeployment.__init__(encoder, rollout, settings)
        denoiser: Any = DenoiserDeployment.__new__(DenoiserDeployment)
        args = DenoiserSettings(registry=registry, args=DenoiserArgs(threads=1), rules=RequestRules())
        await DenoiserDeployment.__init__(denoiser, rollout, args)
        pins = live.pins
        encoded = await encoder.encode(pins[Kind.TEXT_ENCODER], what.texts, 1, "none", 1, what.phrases)
        walk = WalkOrder(order="a", pin=pins[Kind.DENOISER], request=what, terms=Terms(), report_every=4)
        *_, last = [report async for report in denoiser.walk(walk, encoded)]
        return last.latents

    stage = Denoiser(ComponentFolder.open(bundle / Kind.DENOISER), CPU)
    texts = TextEncoder(ComponentFolder.open(bundle / Kind.TEXT_ENCODER), CPU)
    [job] = denoise_jobs(request, texts.encode(request.texts, phrases=request.phrases), stage.contract)
    np.testing.assert_array_equal(asyncio.run(latents(request)), stage.denoise(job))


def test_other_pipelines_and_other_gated_unets_are_refused() -> None:
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"attention_type": "default"}, r"^unet: attention_type='default': must be 'gated'"),
        ({"attention_type": "gated-text-image"}, r"^unet: attention_type='gated-text-image': must be 'gated'"),
        ({"in_channels": 9}, r"^unet: takes 9 channels: a GLIGEN U-Net that inpaints is not supported"),
    )
    for fields, message in refused:
        with pytest.raises(ExportError, match=message):
            box_specs(boxed(**fields).unet)
