"""A decoder of diffusers' AutoencoderTiny as a component, in the latent space of a VAE that it was made for."""

from pathlib import Path

from diffusers import AutoencoderTiny
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from components.contract import Contract, Kind, LatentSpace
from exporters.checkpoint_folder import read_json, require_safetensors
from exporters.errors import ExportError
from exporters.network import Network, trials
from exporters.vae import PIXELS, latent_spec

CONFIG_NAME = "config.json"
_PREFIX = "decoder."
# its configuration names no size of pictures
_GOLDEN_SIDE = 16


class _TinyDecoder(nn.Module):
    """Takes latents in the VAE's own scale, as every decoder here; `decoder` takes the denoiser's."""

    def __init__(self, decoder: nn.Module, space: LatentSpace) -> None:
        super().__init__()
        self.decoder, self._space = decoder, space

    def forward(self, latents: Tensor) -> tuple[Tensor]:
        return (self.decoder((latents - self._space.shift_factor) * self._space.scaling_factor),)


def tiny_decoder(vae: AutoencoderTiny, kind: Kind, space: LatentSpace) -> Network:
    """Take the decoder of `vae` as a `kind` of decoder for latents of `space`; previews too are of full size.

    Raises:
        ExportError: it decodes other latents than those of `space`.
    """
    config = vae.config
    downscale = config.upsampling_scaling_factor ** (len(config.decoder_block_out_channels) - 1)
    found = {"channels": config.latent_channels, "downscale": downscale}
    for field, value in found.items():
        if value != (wanted := getattr(space, field)):
            raise ExportError(f"{field}: the decoder's is {value}, that of the latent space {space.id} {wanted}")
    if config.out_channels != 3:
        raise ExportError(f"out_channels={config.out_channels}: must be 3")
    if (config.scaling_factor, config.shift_factor) != (1, 0):
        # else the denoiser's latents are not what it takes
        raise ExportError(
            f"scaling_factor={config.scaling_factor}, shift_factor={config.shift_factor}: must be 1 and 0"
        )
    contract = Contract(kind=kind, inputs=(latent_spec("latents", space),), outputs=(PIXELS,), latent_space=space)
    small, whole = {"height": 2, "width": 2}, {"height": _GOLDEN_SIDE, "width": _GOLDEN_SIDE}
    return Network(_TinyDecoder(vae.decoder, space), contract, trials(small, whole))


def read_tiny(folder: Path) -> AutoencoderTiny:
    """The AutoencoderTiny of a diffusers folder, in float32; its encoder may be left out of the file, and is not read.

    Raises:
        ExportError: it is of another class, or weights of the decoder are missing, unknown or not safetensors.
    """
    config = read_json(folder, CONFIG_NAME)
    if config.get("_class_name") != "AutoencoderTiny":
        raise ExportError(f"{CONFIG_NAME}: is for {config.get('_class_name')}; AutoencoderTiny can be exported")
    require_safetensors(folder.absolute().parent, folder.absolute().name)
    try:
        # diffusers writes a field there that it does not know itself
        vae = AutoencoderTiny.from_config(
            {name: value for name, value in config.items() if name != "block_out_channels"}
        )
        weights = {
            name.removeprefix(_PREFIX): tensor
            for file in sorted(folder.glob("*.safetensors"))
            for name, tensor in load_file(file).items()
            if name.startswith(_PREFIX)
        }
        vae.decoder.load_state_dict(weights)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ExportError(
            f"{folder.absolute().name}: its weights or configuration cannot be read ({type(error).__name__})"
        ) from None
    return vae.eval().requires_grad_(False)
