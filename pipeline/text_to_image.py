"""The whole chain in one process: a prompt becomes a picture."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from PIL import Image

from components.contract import Kind
from components.folder import ComponentFolder
from components.messages import DenoiseJob, EncodedImage, FloatArray, ImageRequest
from pipeline.bundle import open_bundle
from pipeline.controlnet import ControlNet
from pipeline.controls import ControlBy, prepare
from pipeline.denoiser import Denoiser
from pipeline.jobs import denoise_jobs
from pipeline.request import RequestFields, RequestRules, check_request
from pipeline.text_encoder import TextEncoder
from pipeline.vae_decoder import VaeDecoder
from runtime.settings import SessionSettings

_KINDS = (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER)

_logger = logging.getLogger(__name__)


class Options(TypedDict, total=False):
    """What `TextToImage.generate` takes beside the prompt, as in `RequestFields`."""

    seed: int
    negative_prompt: str
    weighting: str
    clip_skip: int
    steps: int
    guidance: float
    guidance_rescale: float
    guidance_start: float
    guidance_end: float
    adaptive_guidance: float
    sampler: str
    schedule: str
    eta: float
    rng: str
    subseed: int
    subseed_strength: float
    width: int
    height: int
    original_height: int
    original_width: int
    target_height: int
    target_width: int
    crop_top: int
    crop_left: int
    aesthetic_score: float
    negative_aesthetic_score: float


class TextToImage:
    """Text encoder, denoiser and VAE decoder of one bundle; usable from any number of threads at once."""

    def __init__(self, encoder: TextEncoder, denoiser: Denoiser, decoder: VaeDecoder, rules: RequestRules) -> None:
        """Chain three stages that fit together; `load` checks that they do."""
        self._encoder = encoder
        self._denoiser = denoiser
        self._decoder = decoder
        self.rules = rules

    @classmethod
    def load(
        cls, bundle: Path | str, settings: SessionSettings | None = None, rules: RequestRules | None = None
    ) -> "TextToImage":
        """Open a bundle folder; without `settings`, every core and the best provider that attaches.

        Raises:
            ComponentError: a component is missing or damaged, or they do not fit together.
            RuntimeFault: as `Session.open`.
        """
        return cls.of(open_bundle(Path(bundle), _KINDS), settings, rules)

    @classmethod
    def of(
        cls,
        folders: Mapping[Kind, ComponentFolder],
        settings: SessionSettings | None = None,
        rules: RequestRules | None = None,
    ) -> "TextToImage":
        """Open the components of checked folders, which may hold others too.

        Where `settings` leave the threads open, the text encoder takes one: it is done in a few milliseconds.

        Raises:
            ComponentError: a component cannot be driven.
            RuntimeFault: as `Session.open`.
        """
        chosen = SessionSettings() if settings is None else settings
        one_thread = chosen if chosen.threads is not None else chosen.model_copy(update={"threads": 1})
        return cls(
            TextEncoder(folders[Kind.TEXT_ENCODER], one_thread),
            Denoiser(folders[Kind.DENOISER], chosen),
            VaeDecoder(folders[Kind.VAE_DECODER], chosen),
            RequestRules() if rules is None else rules,
        )

    def generate(
        self,
        prompt: str,
        *,
        noise: FloatArray | None = None,
        controls: Sequence[ControlBy] = (),
        **options: Unpack[Options],
    ) -> Image.Image:
        """Draw one picture: the same arguments give the same bytes. Seed and subseed are 0 unless given.

        `controls` hold it; equal to StableDiffusionControlNetPipeline and StableDiffusionAdapterPipeline in diffusers.
        `noise`, standard normal [1, channels, height / downscale, width / downscale], stands in for the seed's.

        Raises:
            RequestError: an argument is outside its limits; nothing has run.
            RuntimeFault: a session could not run.
        """
        options.setdefault("seed", 0)
        options.setdefault("subseed", 0)
        return self.draw(self.check(RequestFields(prompt=prompt, **options)), noise, controls=controls)

    def check(self, fields: RequestFields) -> ImageRequest:
        """Check a request against the bundle and the rules.

        Raises:
            RequestError: a field is outside its limits.
        """
        return check_request(fields, self._denoiser.contract, self.rules, self._encoder.contract.most_clip_skip)

    def draw(
        self,
        request: ImageRequest,
        noise: FloatArray | None = None,
        image: EncodedImage | None = None,
        controls: Sequence[ControlBy] = (),
    ) -> Image.Image:
        """Draw the first picture of a checked request, from `image` if it brings one; the rest as in `generate`.

        Raises:
            RequestError: noise or image have another shape than the request says, or a control is outside its limits or
                not for this denoiser; no network has walked.
            RuntimeFault: a session could not run.
        """
        job, nets = self._job(request, noise, image, controls)
        return Image.fromarray(self._decoder.decode(self._denoiser.denoise(job, nets), request.tiling)[0])

    def begin(self, request: ImageRequest, end: float, noise: FloatArray | None = None) -> FloatArray:
        """Walk a checked request's first picture up to the fraction `end` of the timesteps, for a refiner to go on.

        The latents are the denoiser's, with the noise that they have there; `noise` as in `generate`.

        Raises:
            RequestError: `end` is outside 0..1, or leaves no step; otherwise as `draw`.
            RuntimeFault: a session could not run.
        """
        job, nets = self._job(request, noise)
        return self._denoiser.denoise(replace(job, end=end), nets)

    def finish(self, request: ImageRequest, start: float, latents: FloatArray) -> Image.Image:
        """Draw a checked request's first picture from the `latents` that another bundle's `begin` left at `start`.

        Raises:
            RequestError: `start` is outside 0..1, or leaves no step, or the latents are of another shape.
            RuntimeFault: a session could not run.
        """
        job, nets = self._job(request)
        walked = self._denoiser.denoise(replace(job, start=start, image_latents=latents), nets)
        return Image.fromarray(self._decoder.decode(walked, request.tiling)[0])

    def _job(
        self,
        request: ImageRequest,
        noise: FloatArray | None = None,
        image: EncodedImage | None = None,
        controls: Sequence[ControlBy] = (),
    ) -> tuple[DenoiseJob, Sequence[ControlNet]]:
        pictures, nets, features = prepare(controls, request, self._denoiser.contract, self.rules)
        encoded = self._encoder.encode(
            request.texts, request.prompt_chunks, request.weighting, clip_skip=request.clip_skip
        )
        for field, truncated in zip(("prompt", "negative_prompt"), encoded.truncated, strict=False):
            if truncated:
                _logger.warning("%s: longer than the text encoder's token limit; its end has no effect", field)
        jobs = denoise_jobs(request, encoded, self._denoiser.contract, noise, image, pictures, features)
        return jobs[0], nets
