"""What the latents face is asked, and what it answers."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.ingress.wire.schemas import ComponentPin
from services.messages import PictureFormat

_EXAMPLES: list[Any] = [{}, {"components": {"vae_decoder": "emoji.vae_decoder@candidate"}, "output_format": "webp"}]


class DecodeComponents(BaseModel):
    """Which versions to take in place of those that are pinned."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    vae_decoder: str | None = Field(
        None, description="NAME@ALIAS or NAME/VERSION; left out: the version that the latents were made for"
    )


class DecodeBody(BaseModel):
    """A request for the picture of kept latents."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": _EXAMPLES})

    components: DecodeComponents | None = Field(None, description="versions other than those of the latents")
    output_format: PictureFormat | None = Field(None, description="png if left out")
    output_compression: int | None = Field(
        None, description="0 to 100, for jpeg and webp: the quality, 100 if left out"
    )
    user: str | None = Field(None, description="whose latents they are: who had them made")


class ComparedImage(BaseModel):
    """One version's picture."""

    b64_json: str = Field(description="the PNG file, in base64")
    vae_decoder: ComponentPin = Field(description="what made it")


class ComparisonAnswer(BaseModel):
    """Two versions' pictures of the same latents, and how they differ."""

    created: int = Field(description="seconds since 1970")
    identical: bool = Field(description="whether all pixels are equal")
    psnr_db: float | None = Field(description="null where the two are identical")
    max_difference: int = Field(description="0 to 255, of any channel of any pixel")
    seed: int = Field(description="the latents' own")
    data: list[ComparedImage] = Field(description="in the order in which they were asked for")
    components: dict[str, ComponentPin] = Field(description="what made the latents, by kind")
