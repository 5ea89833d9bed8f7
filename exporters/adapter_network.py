"""diffusers' T2IAdapter as a component: a control picture to features that a denoiser adds on its way down."""

from diffusers import T2IAdapter
from torch import Tensor, nn

from components.contract import CONTROL_PREFIXES, Contract, Kind, TensorSpec
from exporters.control_inputs import feature_spec
from exporters.controlnet_network import require_fit
from exporters.errors import ExportError
from exporters.network import Network, trials

# black and white, or RGB
_CHANNELS = (1, 3)
# the XL adapter's features are for a denoiser of three blocks and its middle, which no exported one adds
_KINDS = ("full_adapter", "light_adapter")


class _Adapter(nn.Module):
    def __init__(self, network: T2IAdapter) -> None:
        super().__init__()
        self.network = network

    def forward(self, control_image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(control_image))


def adapter(network: T2IAdapter, denoiser: Contract) -> Network:
    """Take an adapter for the denoiser of that contract, of its latents' size and features.

    Raises:
        ExportError: it is for another denoiser, or its pictures have neither one channel nor three.
    """
    if denoiser.kind != Kind.DENOISER or denoiser.latent_space is None or denoiser.latent_size is None:
        raise ExportError(f"an adapter is exported for a denoiser, and this is a {denoiser.kind}")
    config, space = network.config, denoiser.latent_space
    for field, found, known in (
        ("adapter_type", config.adapter_type, _KINDS),
        ("in_channels", config.in_channels, _CHANNELS),
        ("downscale_factor", config.downscale_factor, (space.downscale,)),
    ):
        if found not in known:
            raise ExportError(f"{field}={found!r}: must be {' or '.join(map(repr, known))}")
    sides = tuple(f"{side}*{space.downscale}" for side in ("height", "width"))
    contract = Contract(
        kind=Kind.ADAPTER,
        inputs=(TensorSpec(name="control_image", dtype="float32", shape=("batch", config.in_channels, *sides)),),
        outputs=tuple(
            feature_spec(f"{CONTROL_PREFIXES[Kind.ADAPTER]}{block}", channels, 2**block, optional=False)
            for block, channels in enumerate(config.channels)
        ),
        latent_space=space,
        latent_size=denoiser.latent_size,
    )
    require_fit(contract, denoiser)
    small = {"height": 2 * denoiser.latent_multiple, "width": 2 * denoiser.latent_multiple}
    height, width = denoiser.latent_size
    return Network(_Adapter(network), contract, trials(small, {"height": height, "width": width}))
