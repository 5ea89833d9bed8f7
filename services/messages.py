"""What crosses between deployments besides the stages' own messages: pins, orders, pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from components.contract import Contract, Kind
from components.messages import ImageRequest
from components.reference import ComponentRef

PictureFormat: TypeAlias = Literal["png", "jpeg", "webp"]
Pins: TypeAlias = Mapping[Kind, ComponentRef]


@dataclass(frozen=True, slots=True, eq=False)
class LiveModel:
    """What a bundle is just now: the exact version of every component, and its contract."""

    bundle: str
    pins: Pins
    contracts: Mapping[Kind, Contract]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How pictures are written: `quality` 0..100 for jpeg and webp; png loses nothing and knows none."""

    format: PictureFormat = "png"
    quality: int = 100


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """An admitted request: what to draw, by which versions, and how to write it."""

    request: ImageRequest
    pins: Pins
    encoding: Encoding


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One encoded picture and the seeds that made it; `subseed` is None where nothing varied the noise."""

    data: bytes
    seed: int
    subseed: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The pictures of one order, and whether its prompt and its negative prompt were cut at the token limit."""

    pictures: tuple[Picture, ...]
    prompt_truncated: bool
    negative_prompt_truncated: bool
