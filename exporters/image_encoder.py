"""`python -m exporters.image_encoder FOLDER --adapter FILE --of COMPONENT --out DIR`: pictures to image prompts."""

import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers.models.embeddings import ImageProjection
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from components.compatibility import mismatches_among
from components.contract import IMAGE_PROMPT, Conditioning, Contract, Kind, Preprocessing, TensorSpec
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.manifest import Origin
from exporters.checkpoint import Checkpoint
from exporters.checkpoint_folder import read_json, require_safetensors
from exporters.component import exporter_versions, require_replaceable, summary, write_component
from exporters.errors import ExportError
from exporters.image_prompt import ImagePromptAdapter
from exporters.network import Network, trials
from exporters.storage import Weights
from runtime.errors import RuntimeFault

# CLIP's own
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_CONFIG = "preprocessor_config.json"


class _ImageEncoder(nn.Module):
    """Pixels to the tokens of a picture, and to those of no picture, as diffusers gives the unconditional row."""

    def __init__(self, encoder: CLIPVisionModelWithProjection, projection: nn.Module, whole: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = projection
        self.whole = whole

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        seen = self._seen(pixels)
        nothing = torch.zeros_like(seen) if self.whole else self._seen(torch.zeros_like(pixels))
        return self.projection(seen), self.projection(nothing)

    def _seen(self, pixels: Tensor) -> Tensor:
        if self.whole:
            whole: Tensor = self.encoder(pixels).image_embeds
            return whole
        patches: Tensor = self.encoder(pixels, output_hidden_states=True).hidden_states[-2]
        return patches


def export_image_encoder(
    path: Path, adapter: Path, of: Path, out: Path, *, weights: Weights = "float16", licence: str | None = None
) -> ComponentFolder:
    """Export the CLIPVisionModelWithProjection at `path` with the IP-Adapter's projection, for the denoiser at `of`.

    A component that is at `out` already is replaced once the new one is right.

    Raises:
        ComponentError: there is no component at `of`.
        ExportError: the checkpoint or the adapter cannot be read or exported, are of other widths than each other or
            the denoiser, or a folder in the way is no component; nothing is replaced then.
    """
    require_replaceable(out)
    prompt = ImagePromptAdapter.read(adapter)
    network = _network(path, prompt)
    if found := mismatches_among([network.contract, ComponentFolder.open(of).manifest.contract]):
        raise ExportError(f"{adapter.name}: does not fit {of.absolute().name}: {'; '.join(found)}")
    origin = Origin(source=path.absolute().name, licence=licence, exporter=exporter_versions(), edits=(prompt.edit,))
    # beside `out`, so that a rename brings it there
    partial = out.absolute().with_name(f".{out.absolute().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        write_component(network, partial, weights, origin)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ComponentFolder.open(out)


def _network(path: Path, adapter: ImagePromptAdapter) -> Network:
    require_safetensors(path.parent, path.name)
    try:
        encoder = CLIPVisionModelWithProjection.from_pretrained(path, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ExportError(f"{path.name}: cannot be read as a CLIP image encoder ({type(error).__name__})") from None
    projection = adapter.image_projection()
    module = _ImageEncoder(encoder, projection, isinstance(projection, ImageProjection))
    try:
        return _seen_by(module, path)
    except RuntimeError:
        raise ExportError(f"{adapter.path.name}: is for another image encoder than {path.name}") from None


def variation_encoder(checkpoint: Checkpoint) -> Network:
    """Read the image encoder of a checkpoint whose denoiser looks at a picture in place of a text: one token each.

    Raises:
        ExportError: it cannot be read.
    """
    encoder = checkpoint.image_encoder()
    one_token = nn.Unflatten(1, (1, encoder.config.projection_dim))
    return _seen_by(_ImageEncoder(encoder, one_token, whole=True), checkpoint.parts.path / "feature_extractor")


def image_conditioning(encoder: Contract) -> tuple[Conditioning, ...]:
    """What a denoiser that looks at nothing but pictures takes of an image encoder of that contract."""
    tokens, width = next(spec.shape[1:] for spec in encoder.outputs if spec.name == IMAGE_PROMPT)
    assert isinstance(tokens, int), "a picture has so many tokens"
    assert isinstance(width, int), "a token has a width"
    return (Conditioning(name=IMAGE_PROMPT, width=width, tokens=tokens),)


def _seen_by(module: _ImageEncoder, path: Path) -> Network:
    """The network, its preprocessing said at `path`; RuntimeError where the projection is for another encoder."""
    module.eval().requires_grad_(False)
    side = module.encoder.config.image_size
    tokens, _ = module(torch.zeros(1, 3, side, side))
    _, count, width = tokens.shape
    shape = ("batch", count, width)
    contract = Contract(
        kind=Kind.IMAGE_ENCODER,
        inputs=(TensorSpec(name="pixels", dtype="float32", shape=("batch", 3, side, side)),),
        outputs=(
            TensorSpec(name=IMAGE_PROMPT, dtype="float32", shape=shape),
            TensorSpec(name="no_image_prompt", dtype="float32", shape=shape),
        ),
        preprocessing=_preprocessing(path, side),
    )
    return Network(module, contract, trials({}, {}))


def _preprocessing(path: Path, side: int) -> Preprocessing:
    """What the folder says of it, CLIP's own where it says nothing."""
    if not (path / _CONFIG).is_file():
        return Preprocessing(side=side, mean=_MEAN, std=_STD)
    config = read_json(path, _CONFIG)
    return Preprocessing(side=side, mean=config.get("image_mean", _MEAN), std=config.get("image_std", _STD))


def main(
    folder: Annotated[Path, typer.Argument(help="the folder of a CLIPVisionModelWithProjection")],
    adapter: Annotated[Path, typer.Option(help="the IP-Adapter, a .safetensors file")],
    of: Annotated[Path, typer.Option(help="the denoiser's component, exported with --image-prompt")],
    out: Annotated[Path, typer.Option(help="where the component folder goes")],
    licence: Annotated[str | None, typer.Option(help="the licence of the weights, for component.json")] = None,
) -> None:
    """Export the image encoder of an IP-Adapter."""
    try:
        written = export_image_encoder(folder, adapter, of, out, licence=licence)
    except (ComponentError, ExportError, RuntimeFault) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(summary(written))


if __name__ == "__main__":
    typer.run(main)
