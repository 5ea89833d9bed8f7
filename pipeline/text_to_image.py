"""The whole chain in one process: a prompt becomes a picture."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypedDict, Unpack

from PIL import Image

from components.contract import Contract, Kind
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.messages import Arrays, DenoiseJob, EncodedImage, EncodedText, FloatArray, ImageRequest
from pipeline.bundle import open_bundle, those_there
from pipeline.controlnet import ControlNet
from pipeline.controls import ControlBy, prepare
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError, refuse
from pipeline.hires import enlarged_latents, enlarged_pixels, enlarges_latents
from pipeline.image_encoder import ImageEncoder
from pipeline.jobs import denoise_jobs
from pipeline.loras import LoraShelf
from pipeline.request import RequestFields, RequestRules, check_request
from pipeline.rows import adapted_rows
from pipeline.text_encoder import TextEncoder, third_text_encoder
from pipeline.upscalers import UPSCALERS
from pipeline.vae_decoder import VaeDecoder
from pipeline.vae_encoder import VaeEncoder
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
    image_guidance: float
    noise_level: int
    guidance_rescale: float
    guidance_start: float
    guidance_end: float
    adaptive_guidance: float
    skip_layers: Sequence[int]
    skip_layer_guidance: float
    skip_layer_guidance_start: float
    skip_layer_guidance_end: float
    sampler: str
    schedule: str
    eta: float
    rng: str
    subseed: int
    subseed_strength: float
    width: int
    height: int
    loras: Sequence[Mapping[str, object]]
    image_prompt_scale: float
    boxes: Sequence[Mapping[str, object]]
    boxes_end: float
    original_height: int
    original_width: int
    target_height: int
    target_width: int
    crop_top: int
    crop_left: int
    aesthetic_score: float
    negative_aesthetic_score: float
    hires: Mapping[str, object]


class TextToImage:
    """Text encoder, denoiser and VAE decoder of one bundle; usable from any number of threads at once."""

    def __init__(
        self,
        encoder: TextEncoder | None,
        denoiser: Denoiser,
        decoder: VaeDecoder,
        rules: RequestRules,
        loras: LoraShelf | None = None,
        image_encoder: ImageEncoder | None = None,
        vae_encoder: Callable[[], VaeEncoder] | None = None,
        third_encoder: TextEncoder | None = None,
    ) -> None:
        """Chain stages that fit together; `load` checks that they do. Requests may name the `loras`.

        A denoiser that reads no texts needs no text encoder, but an image encoder. The VAE's encoder is for pictures
        that are drawn in two passes and enlarged between them as pixels.
        """
        self._encoder = encoder
        self._denoiser = denoiser
        self._decoder = decoder
        self._loras = loras
        self._image_encoder = image_encoder
        self._open_vae_encoder = vae_encoder
        self._third_encoder = third_encoder
        self.rules = rules

    @classmethod
    def load(
        cls,
        bundle: Path | str,
        settings: SessionSettings | None = None,
        rules: RequestRules | None = None,
        loras: Mapping[str, Path] | None = None,
    ) -> "TextToImage":
        """Open a bundle folder; without `settings`, every core and the best provider that attaches.

        `loras` are the component folders of what requests may name. Where there is an image encoder in the bundle,
        requests may bring pictures to be like; where there is a third text encoder, it reads the texts too; where there
        is a VAE encoder, they may have pixels enlarged.

        Raises:
            ComponentError: a component is missing or damaged, or they do not fit together.
            RuntimeFault: as `Session.open`.
        """
        shelved = {name: ComponentFolder.open(path) for name, path in ({} if loras is None else loras).items()}
        for folder in shelved.values():
            folder.verify()
        path = Path(bundle)
        more = those_there(path, Kind.IMAGE_ENCODER, Kind.THIRD_TEXT_ENCODER, Kind.VAE_ENCODER)
        # a bundle whose denoiser reads no texts has none that would
        reads = Kind.IMAGE_ENCODER not in more or (path / Kind.TEXT_ENCODER).is_dir()
        kinds = [kind for kind in _KINDS if kind != Kind.TEXT_ENCODER or reads]
        return cls.of(open_bundle(path, (*kinds, *more)), settings, rules, shelved)

    @classmethod
    def of(
        cls,
        folders: Mapping[Kind, ComponentFolder],
        settings: SessionSettings | None = None,
        rules: RequestRules | None = None,
        loras: Mapping[str, ComponentFolder] | None = None,
    ) -> "TextToImage":
        """Open the components of checked folders, which may hold others too.

        Where `settings` leave the threads open, the text encoder takes one: it is done in a few milliseconds.

        Raises:
            ComponentError: a component cannot be driven, or what encodes what the denoiser reads is missing.
            RuntimeFault: as `Session.open`.
        """
        chosen = SessionSettings() if settings is None else settings
        one_thread = chosen if chosen.threads is not None else chosen.model_copy(update={"threads": 1})
        denoiser = Denoiser(folders[Kind.DENOISER], chosen)
        texts = denoiser.contract.reads_texts
        if (needed := Kind.TEXT_ENCODER if texts else Kind.IMAGE_ENCODER) not in folders:
            raise ComponentError(f"{needed}: missing, and this denoiser draws by what it makes")
        return cls(
            TextEncoder(folders[Kind.TEXT_ENCODER], one_thread) if texts else None,
            denoiser,
            VaeDecoder(folders[Kind.VAE_DECODER], chosen),
            RequestRules() if rules is None else rules,
            LoraShelf(loras, denoiser.contract, one_thread) if loras else None,
            ImageEncoder(folders[Kind.IMAGE_ENCODER], chosen) if Kind.IMAGE_ENCODER in folders else None,
            partial(VaeEncoder, folders[Kind.VAE_ENCODER], chosen) if Kind.VAE_ENCODER in folders else None,
            third_text_encoder(folders[Kind.THIRD_TEXT_ENCODER], chosen)
            if Kind.THIRD_TEXT_ENCODER in folders
            else None,
        )

    def generate(
        self,
        prompt: str,
        *,
        noise: FloatArray | None = None,
        controls: Sequence[ControlBy] = (),
        image_prompts: Sequence[Image.Image] = (),
        **options: Unpack[Options],
    ) -> Image.Image:
        """Draw one picture: the same arguments give the same bytes. Seed and subseed are 0 unless given.

        `controls` hold it; equal to StableDiffusionControlNetPipeline and StableDiffusionAdapterPipeline in diffusers.
        `noise`, standard normal [1, channels, height / downscale, width / downscale], stands in for the seed's, but in
        a second pass. `image_prompts` are pictures to be like, by an IP-Adapter; or in place of a prompt, which is then
        empty: equal to StableDiffusionImageVariationPipeline.

        Raises:
            RequestError: an argument is outside its limits; no network has walked.
            RuntimeFault: a session could not run.
        """
        options.setdefault("seed", 0)
        options.setdefault("subseed", 0)
        fields = RequestFields(prompt=prompt, image_prompts=len(image_prompts), **options)
        return self.draw(self.check(fields), noise, controls=controls, image_prompts=image_prompts)

    @cached_property
    def vae_encoder(self) -> VaeEncoder | None:
        """The VAE's encoder, opened when it is first asked for: a picture of a prompt seldom needs it."""
        return None if self._open_vae_encoder is None else self._open_vae_encoder()

    @property
    def contract(self) -> Contract:
        """The denoiser's."""
        return self._denoiser.contract

    def check(self, fields: RequestFields) -> ImageRequest:
        """Check a request against the bundle and the rules.

        Raises:
            RequestError: a field is outside its limits.
        """
        checked = check_request(
            fields,
            self._denoiser.contract,
            self.rules,
            1 if self._encoder is None else self._encoder.contract.most_clip_skip,
            () if self._loras is None else self._loras.names,
        )
        if fields.image_prompts and self._image_encoder is None:
            raise RequestError("image_prompts", "image_prompts: must be left out, as there is no image encoder here")
        hires = checked.hires
        if hires is not None and not enlarges_latents(hires.upscaler) and self.vae_encoder is None:
            latents = ", ".join(name for name, one in UPSCALERS.items() if one.of_latents)
            raise refuse("hires.upscaler", hires.upscaler, f"one of {latents}, as there is no VAE encoder here")
        return checked

    def draw(
        self,
        request: ImageRequest,
        noise: FloatArray | None = None,
        image: EncodedImage | None = None,
        controls: Sequence[ControlBy] = (),
        image_prompts: Sequence[Image.Image] = (),
    ) -> Image.Image:
        """Draw the first picture of a checked request, from `image` if it brings one; the rest as in `generate`.

        Raises:
            RequestError: noise or image have another shape than the request says, a control is outside its limits or
                not for this denoiser, or the image prompts are others than were checked; no network has walked.
            RuntimeFault: a session could not run.
        """
        job, nets = self._job(request.passes[0], noise, image, controls, image_prompts)
        latents = self._denoiser.denoise(job, nets)
        if request.hires is not None:
            first, second = request.passes
            start = self._enlarged(latents, first, second, request.hires.upscaler)
            job, nets = self._job(second, None, start, controls, image_prompts)
            latents = self._denoiser.denoise(job, nets)
        return Image.fromarray(self._decoder.decode(latents, request.tiling)[0])

    def begin(self, request: ImageRequest, end: float, noise: FloatArray | None = None) -> FloatArray:
        """Walk a checked request's first picture up to the fraction `end` of the timesteps, for a refiner to go on.

        The latents are the denoiser's, with the noise that they have there; `noise` as in `generate`.

        Raises:
            RequestError: `end` is outside 0..1, or leaves no step, or there are two passes; otherwise as `draw`.
            RuntimeFault: a session could not run.
        """
        _require_one_pass(request)
        job, nets = self._job(request, noise)
        return self._denoiser.denoise(replace(job, end=end), nets)

    def finish(self, request: ImageRequest, start: float, latents: FloatArray) -> Image.Image:
        """Draw a checked request's first picture from the `latents` that another bundle's `begin` left at `start`.

        Raises:
            RequestError: `start` is outside 0..1, or leaves no step, or the latents are of another shape, or there are
                two passes.
            RuntimeFault: a session could not run.
        """
        _require_one_pass(request)
        job, nets = self._job(request)
        walked = self._denoiser.denoise(replace(job, start=start, image_latents=latents), nets)
        return Image.fromarray(self._decoder.decode(walked, request.tiling)[0])

    def _enlarged(self, latents: FloatArray, first: ImageRequest, second: ImageRequest, upscaler: str) -> EncodedImage:
        """What the second of two passes starts from."""
        if enlarges_latents(upscaler):
            return EncodedImage(None, latents=enlarged_latents(latents, first, second, upscaler))
        assert self.vae_encoder is not None, "a checked request has asked for it"
        pixels = enlarged_pixels(self._decoder.decode(latents, first.tiling)[0], second, upscaler)
        return EncodedImage(self.vae_encoder.encode(pixels, second.tiling))

    def _job(
        self,
        request: ImageRequest,
        noise: FloatArray | None = None,
        image: EncodedImage | None = None,
        controls: Sequence[ControlBy] = (),
        image_prompts: Sequence[Image.Image] = (),
    ) -> tuple[DenoiseJob, Sequence[ControlNet]]:
        pictures, nets, features = prepare(controls, request, self._denoiser.contract, self.rules)
        encoded = EncodedText({}, ())
        if self._encoder is not None:
            encoded = self._encoder.encode(
                request.texts,
                request.prompt_chunks,
                request.weighting,
                clip_skip=request.clip_skip,
                phrases=request.phrases,
            )
        if self._third_encoder is not None:
            encoded = encoded.beside(self._third_encoder.encode(request.texts, weighting=request.weighting))
        for field, truncated in zip(("prompt", "negative_prompt"), encoded.truncated, strict=False):
            if truncated:
                _logger.warning("%s: longer than the text encoder's token limit; its end has no effect", field)
        adapted = self._adapted(request, image_prompts)
        jobs = denoise_jobs(request, encoded, self._denoiser.contract, noise, image, pictures, features, adapted)
        return jobs[0], nets

    def _adapted(self, request: ImageRequest, image_prompts: Sequence[Image.Image]) -> dict[str, Arrays]:
        """What comes of a request beside its texts, by row."""
        if bool(image_prompts) != (request.image_prompt_scale is not None):
            wanted = "left out, as in what was checked" if image_prompts else "those that were checked"
            raise refuse("image_prompts", f"{len(image_prompts)} pictures", wanted)
        arrays = self._loras.arrays(request.loras) if self._loras is not None and request.loras else {}
        if self._image_encoder is None or request.image_prompt_scale is None:
            return adapted_rows(arrays, None)
        scaled = any(spec.name == "image_prompt_scale" for spec in self.contract.inputs)
        scale, most = request.image_prompt_scale if scaled else None, self.rules.max_source_pixels
        return adapted_rows(arrays, self._image_encoder.rows(image_prompts, scale, most))


def _require_one_pass(request: ImageRequest) -> None:
    if request.hires is not None:
        raise RequestError("hires", "hires: must be left out where a refiner goes on")
