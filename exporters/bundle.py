"""A whole checkpoint as a bundle folder: components that fit together."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from components.compatibility import mismatches_among
from components.contract import PARTS, Kind
from components.folder import TOKENIZER_NAMES, ComponentFolder
from components.manifest import Origin
from components.reference import registered_name
from exporters.checkpoint import Checkpoint, PredictionType
from exporters.component import exporter_versions, require_replaceable, write_component
from exporters.denoiser import UnetInputs, denoiser
from exporters.edits import EditedCheckpoint, Edits
from exporters.errors import ExportError
from exporters.image_encoder import image_conditioning, variation_encoder
from exporters.image_prompt import ImagePromptAdapter
from exporters.network import Network
from exporters.preview import fit_preview
from exporters.storage import Weights
from exporters.text_encoder import text_encoder, tokenizer_file, tokenizer_files
from exporters.third_text_encoder import TOKENS, third_text_encoder
from exporters.transformer import transformer
from exporters.vae import latent_space
from exporters.vae_decoder import vae_decoder
from exporters.vae_encoder import vae_encoder

_KINDS = (*PARTS, Kind.THIRD_TEXT_ENCODER)


@dataclass(frozen=True)
class BundleOptions:
    """How a checkpoint becomes a bundle.

    `latent_space` is the name by which components of several bundles fit each other, the bundle's own if not given;
    `source` says where the weights came from, the checkpoint folder's name if not given, `training_run` which run of
    it made them. `guidance` is what the denoiser draws best at, the default of requests. `configs` and
    `prediction_type` are for single files, and `without_t5` is for SD 3, as in `Checkpoint.open`; `t5_tokens` is how
    long T5's texts are. `edits` are merged
    into the weights before they are exported. With `lora_inputs` every row of a U-Net may bring LoRAs of its own, with
    `image_prompt` pictures.
    """

    bundle: str
    weights: Weights = "float16"
    latent_space: str | None = None
    source: str | None = None
    licence: str | None = None
    training_run: str | None = None
    guidance: float | None = None
    configs: Path | None = None
    prediction_type: PredictionType | None = None
    without_t5: bool = False
    t5_tokens: int = TOKENS
    edits: Edits = field(default_factory=Edits)
    lora_inputs: bool = False
    image_prompt: ImagePromptAdapter | None = None


def export_bundle(
    path: Path, out: Path, options: BundleOptions, on_component: Callable[[ComponentFolder], None] = lambda _: None
) -> None:
    """Export the checkpoint at `path` into component folders below `out`, one network in memory at a time.

    They are four, and one more for T5; where a picture takes the text's place there is an image encoder and no text
    encoder. Components that are there already are replaced together, once all are right; a third text encoder of an
    earlier export goes where this one has none.

    Raises:
        ComponentError: the bundle's name cannot be part of a component's name.
        ExportError: the checkpoint cannot be read or exported, an export is not exact, or a folder in the way is no
            component; nothing is replaced then.
    """
    registered_name(options.bundle, Kind.DENOISER)
    checkpoint = EditedCheckpoint.of(
        Checkpoint.open(path, options.configs, options.prediction_type, options.without_t5), options.edits
    )
    kinds = [_encoder_of(checkpoint) if kind == Kind.TEXT_ENCODER else kind for kind in _KINDS]
    for kind in kinds:
        require_replaceable(out / kind)
    _require_inputs(checkpoint, options)
    # beside `out`, so that a rename brings it there
    partial = out.absolute().with_name(f".{out.absolute().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _export(checkpoint, partial, options, on_component)
        out.mkdir(parents=True, exist_ok=True)
        for kind in kinds:
            if (out / kind).exists():
                (out / kind).rename(partial / f"{kind}.old")
            if (partial / kind).exists():
                (partial / kind).rename(out / kind)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _encoder_of(checkpoint: Checkpoint) -> Kind:
    return Kind.IMAGE_ENCODER if checkpoint.has_image_encoder else Kind.TEXT_ENCODER


def _require_inputs(checkpoint: Checkpoint, options: BundleOptions) -> None:
    """Refuse inputs that only a U-Net is given, before any weights are read."""
    for option, given in (("--lora-inputs", options.lora_inputs), ("--image-prompt", options.image_prompt is not None)):
        if given and checkpoint.has_transformer:
            raise ExportError(f"{option}: is for U-Nets; the transformer of {checkpoint.name} takes none")


def _export(
    checkpoint: Checkpoint, partial: Path, options: BundleOptions, on_component: Callable[[ComponentFolder], None]
) -> None:
    tokenizers = {} if checkpoint.has_image_encoder else {Kind.TEXT_ENCODER: tokenizer_files(checkpoint.tokenizers())}
    if checkpoint.has_third_text_encoder:
        content = tokenizer_file(checkpoint.third_tokenizer(), options.t5_tokens)
        tokenizers[Kind.THIRD_TEXT_ENCODER] = {TOKENIZER_NAMES[0]: content}
    source = checkpoint.name if options.source is None else options.source
    origin = Origin(
        source=source,
        licence=options.licence,
        training_run=options.training_run,
        exporter=exporter_versions(),
        edits=(*options.edits.records, *(() if options.image_prompt is None else (options.image_prompt.edit,))),
    )
    space = options.bundle if options.latent_space is None else options.latent_space
    contracts = []
    for network in _networks(checkpoint, space, options):
        kind = network.contract.kind
        contracts.append(network.contract)
        on_component(write_component(network, partial / kind, options.weights, origin, tokenizers.get(kind)))
        # else it would stay in memory while the next one is read
        del network
    if found := mismatches_among(contracts):
        raise ExportError(f"{checkpoint.name}: its networks do not fit: {'; '.join(found)}")


def _networks(checkpoint: Checkpoint, space: str, options: BundleOptions) -> Iterator[Network]:
    try:
        vae = checkpoint.vae()
        latents = latent_space(vae, space)
        # while its weights are the checkpoint's: the export rounds them
        preview = fit_preview(vae, latents)
        yield vae_decoder(vae, latents)
        yield vae_encoder(vae, latents)
        del vae
        if checkpoint.has_image_encoder:
            pictures = variation_encoder(checkpoint)
            conditioning = image_conditioning(pictures.contract)
            yield pictures
            del pictures
        else:
            texts = text_encoder(checkpoint)
            conditioning = texts.contract.conditioning
            yield texts
            del texts
        if checkpoint.has_third_text_encoder:
            yield third_text_encoder(checkpoint, options.t5_tokens)
        if checkpoint.has_transformer:
            yield transformer(checkpoint, latents, conditioning, preview, options.guidance, options.t5_tokens)
        else:
            more = UnetInputs(options.lora_inputs, options.image_prompt, checkpoint.takes_boxes)
            yield denoiser(checkpoint, latents, conditioning, preview, options.guidance, more)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ExportError(f"{error.title}: {where}={first['input']!r}: {first['msg']}") from None
