"""What crosses between deployments about latents that are kept."""

from dataclasses import dataclass

from components.contract import Contract
from components.messages import FloatArray, ImageRequest
from components.reference import ComponentRef
from services.messages import Encoding, Pins


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KeptLatents:
    """One picture's final latents [1, channels, height, width], in the denoiser's scale, and what made them.

    `request` is that of this picture alone, without its texts, and `beside` are the versions that it names itself;
    `contract` is the denoiser's, with the latent space.
    """

    latents: FloatArray
    request: ImageRequest
    pins: Pins
    contract: Contract
    prompt_truncated: bool = False
    negative_prompt_truncated: bool = False
    beside: tuple[ComponentRef, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DecodeOrder:
    """Kept latents to be decoded by a version, or by `fallback` where that gives no picture."""

    kept: KeptLatents
    decoder: ComponentRef
    fallback: ComponentRef | None
    encoding: Encoding


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CompareOrder:
    """Kept latents to be decoded by two versions: for one picture that shows both, or for the two `files`."""

    kept: KeptLatents
    decoders: tuple[ComponentRef, ComponentRef]
    files: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Compared:
    """Two pictures of the same latents and how they differ: one PNG file that shows all, or one of each picture.

    `psnr_db` is infinite where they are the same. `max_difference` is 0..255; the map shows it `factor` times.
    """

    files: tuple[bytes, ...]
    psnr_db: float
    max_difference: int
    factor: int
