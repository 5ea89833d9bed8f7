"""The VAE decoder as a component: latents in the VAE's own scale to pixels in [-1, 1]."""

from diffusers import AutoencoderKL
from torch import Tensor, nn

from components.contract import Contract, Kind, LatentSpace
from exporters.network import Network, trials
from exporters.vae import PIXELS, latent_spec


class _Decoder(nn.Module):
    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv = vae.decoder, vae.post_quant_conv

    def forward(self, latents: Tensor) -> tuple[Tensor]:
        hidden = latents if self.post_quant_conv is None else self.post_quant_conv(latents)
        return (self.decoder(hidden),)


def vae_decoder(vae: AutoencoderKL, space: LatentSpace) -> Network:
    """Take the decoder of a VAE whose pictures are `config.sample_size` high and wide."""
    contract = Contract(
        kind=Kind.VAE_DECODER, inputs=(latent_spec("latents", space),), outputs=(PIXELS,), latent_space=space
    )
    side = max(2, vae.config.sample_size // space.downscale)
    return Network(_Decoder(vae), contract, trials({"height": 2, "width": 2}, {"height": side, "width": side}))
