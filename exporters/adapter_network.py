"""diffusers' T2IAdapter as a component: a control picture to features that a denoiser adds on its way down."""

from collections.abc import Callable, Mapping
from typing import Any

from diffusers import T2IAdapter
from torch import Tensor, nn

from components.contract import CONTROL_PREFIXES, Contract, Kind, TensorSpec, shape_text
from exporters.control_inputs import ADAPTER_MID, feature_spec
from exporters.controlnet_network import require_fit
from exporters.errors import ExportError
from exporters.network import Network, trials

# black and white, or RGB
_CHANNELS = (1, 3)
# how many times a picture's features are halved in size, by the kind and the number of features before them
_HALVED: Mapping[str, Callable[[int], int]] = {
    "full_adapter": lambda before: before,
    "light_adapter": lambda before: before,
    # for U-Nets of SDXL's kind, whose first level has no attention and adds them behind its downsampling
    "full_adapter_xl": lambda before: 0 if before < 2 else 1,
}


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
        ("adapter_type", config.adapter_type, tuple(_HALVED)),
        ("in_channels", config.in_channels, _CHANNELS),
    ):
        if found not in known:
            raise ExportError(f"{field}={found!r}: must be {' or '.join(map(repr, known))}")
    first, rest = divmod(config.downscale_factor, space.downscale)
    if first < 1 or rest:
        wanted = f"a multiple of {space.downscale}, the latent space's downscale"
        raise ExportError(f"downscale_factor={config.downscale_factor}: must be {wanted}")
    sides = tuple(f"{side}*{space.downscale}" for side in ("height", "width"))
    contract = Contract(
        kind=Kind.ADAPTER,
        inputs=(TensorSpec(name="control_image", dtype="float32", shape=("batch", config.in_channels, *sides)),),
        outputs=tuple(
            feature_spec(name, channels, first * 2 ** _HALVED[config.adapter_type](before), optional=False)
            for before, (name, channels) in enumerate(zip(_names(denoiser, config), config.channels, strict=True))
        ),
        latent_space=space,
        latent_size=denoiser.latent_size,
    )
    require_fit(contract, denoiser)
    _require_sizes(contract, denoiser)
    small = {"height": 2 * denoiser.latent_multiple, "width": 2 * denoiser.latent_multiple}
    height, width = denoiser.latent_size
    return Network(_Adapter(network), contract, trials(small, {"height": height, "width": width}))


def _names(denoiser: Contract, config: Any) -> list[str]:
    """A name for every feature; one more than the denoiser has blocks is for its middle, where it adds one there."""
    prefix = CONTROL_PREFIXES[Kind.ADAPTER]
    added = {spec.name for spec in denoiser.inputs if spec.name.startswith(prefix)}
    names = [f"{prefix}{number}" for number in range(len(config.channels))]
    if ADAPTER_MID in added and len(names) == len(added):
        names[-1] = ADAPTER_MID
    return names


def _require_sizes(contract: Contract, denoiser: Contract) -> None:
    added = {spec.name: spec.shape for spec in denoiser.inputs}
    for spec in contract.outputs:
        if spec.shape != added[spec.name]:
            raise ExportError(
                f"it does not fit the denoiser: {spec.name}: is {shape_text(spec.shape)}, where the denoiser adds "
                f"{shape_text(added[spec.name])}"
            )
