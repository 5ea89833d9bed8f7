"""What decoder and encoder of one VAE have in common: the latent space."""

from diffusers import AutoencoderKL

from components.contract import LatentSpace, TensorSpec
from exporters.errors import ExportError

PIXELS = TensorSpec(name="pixels", dtype="float32", shape=("batch", 3, "height", "width"))


def latent_space(vae: AutoencoderKL, identity: str) -> LatentSpace:
    """The latent space of a VAE, under the name by which components know that they fit.

    Raises:
        ExportError: its latents are scaled channel by channel, or its pictures have other than three channels.
    """
    config = vae.config
    if config.latents_mean is not None or config.latents_std is not None:
        raise ExportError("vae: latents_mean and latents_std are not supported")
    if (config.in_channels, config.out_channels) != (3, 3):
        raise ExportError(f"vae: takes {config.in_channels} and gives {config.out_channels} channels; must be 3 and 3")
    return LatentSpace(
        id=identity,
        channels=config.latent_channels,
        downscale=2 ** (len(config.block_out_channels) - 1),
        scaling_factor=config.scaling_factor,
        shift_factor=0.0 if config.shift_factor is None else config.shift_factor,
    )


def latent_spec(name: str, space: LatentSpace) -> TensorSpec:
    """An input or output of latents."""
    return TensorSpec(name=name, dtype="float32", shape=("batch", space.channels, "height", "width"))
