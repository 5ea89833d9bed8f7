"""What enlarges a picture between two passes: an interpolation of its latents, or a filter of its pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from PIL import Image

from diffusion.interpolation import INTERPOLATIONS


@dataclass(frozen=True, slots=True)
class Upscaler:
    """One of them; `label` is A1111's name of it, None where it has none.

    Latents are interpolated by that name of `INTERPOLATIONS`; where it is None pixels are by the filter.
    """

    name: str
    label: str | None
    interpolation: str | None = None
    resampling: Image.Resampling | None = None

    @property
    def of_latents(self) -> bool:
        """Whether it enlarges latents, so that the picture between the passes is neither decoded nor encoded."""
        return self.interpolation is not None


_LATENTS = {
    "nearest": "Latent (nearest)",
    "nearest_exact": "Latent (nearest-exact)",
    "bilinear": "Latent",
    "bilinear_antialiased": "Latent (antialiased)",
    "bicubic": "Latent (bicubic)",
    "bicubic_antialiased": "Latent (bicubic antialiased)",
}
_PIXELS = {"lanczos": "Lanczos", "nearest": "Nearest", "bilinear": None, "bicubic": None}

UPSCALERS: Mapping[str, Upscaler] = MappingProxyType(
    {
        one.name: one
        for one in (
            *(Upscaler(f"latent_{name}", _LATENTS[name], interpolation=name) for name in INTERPOLATIONS),
            *(Upscaler(name, label, resampling=Image.Resampling[name.upper()]) for name, label in _PIXELS.items()),
        )
    }
)
