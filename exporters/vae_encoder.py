"""The VAE encoder as a component: pixels in [-1, 1] to mean and log-variance of latents in the VAE's own scale."""

from diffusers import AutoencoderKL
from torch import Tensor, nn

from components.contract import Contract, Kind, LatentSpace
from exporters.network import Network, trials
from exporters.vae import PIXELS, latent_spec

# the bounds of diffusers' DiagonalGaussianDistribution
_LOG_VARIANCE = (-30.0, 20.0)


class _Encoder(nn.Module):
    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder(pixels)
        mean, log_variance = (hidden if self.quant_conv is None else self.quant_conv(hidden)).chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCE)


def vae_encoder(vae: AutoencoderKL, space: LatentSpace) -> Network:
    """Take the encoder of a VAE whose pictures are `config.sample_size` high and wide."""
    contract = Contract(
        kind=Kind.VAE_ENCODER,
        inputs=(PIXELS,),
        outputs=(latent_spec("mean", space), latent_spec("log_variance", space)),
        latent_space=space,
    )
    small, side = 2 * space.downscale, max(2 * space.downscale, vae.config.sample_size)
    return Network(_Encoder(vae), contract, trials({"height": small, "width": small}, {"height": side, "width": side}))
