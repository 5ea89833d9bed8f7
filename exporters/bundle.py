"""A whole checkpoint as a bundle folder: four components that fit together."""

from collections.abc import Callable, Iterator
from pathlib import Path

from components.contract import Kind
from components.folder import ComponentFolder
from components.reference import registered_name
from exporters.checkpoint import Checkpoint
from exporters.component import write_component
from exporters.denoiser import denoiser
from exporters.network import Network
from exporters.storage import Weights
from exporters.text_encoder import text_encoder, tokenizer_json
from exporters.vae import latent_space
from exporters.vae_decoder import vae_decoder
from exporters.vae_encoder import vae_encoder


def export_bundle(
    path: Path,
    bundle: str,
    out: Path,
    *,
    weights: Weights = "float16",
    space: str | None = None,
    licence: str | None = None,
    on_component: Callable[[ComponentFolder], None] = lambda _: None,
) -> None:
    """Export the diffusers folder at `path` into component folders below `out`, one network in memory at a time.

    `space` names the latent space, by which components of several bundles fit each other; it is `bundle` if not given.

    Raises:
        ComponentError: `bundle` cannot be part of a component's name.
        ExportError: the checkpoint cannot be read or exported, or an export is not exact.
    """
    registered_name(bundle, Kind.DENOISER)
    checkpoint = Checkpoint.open(path)
    tokenizer = tokenizer_json(checkpoint.tokenizer())
    for network in _networks(checkpoint, bundle if space is None else space):
        kind = network.contract.kind
        folder = write_component(
            network,
            out / kind,
            weights=weights,
            source=bundle,
            licence=licence,
            tokenizer=tokenizer if kind == Kind.TEXT_ENCODER else None,
        )
        on_component(folder)


def _networks(checkpoint: Checkpoint, space: str) -> Iterator[Network]:
    vae = checkpoint.vae()
    latents = latent_space(vae, space)
    yield vae_decoder(vae, latents)
    yield vae_encoder(vae, latents)
    del vae
    yield text_encoder(checkpoint)
    yield denoiser(checkpoint, latents)
