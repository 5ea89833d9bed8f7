"""What the face of stories is asked, and what it answers."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from diffusion.batcher_records import Priority
from pipeline.story.origin import PixelsDigest
from pipeline.story.reading import Source
from services.ingress.wire.schemas import ComponentPin
from services.messages import PictureFormat

_EMPTY = BeforeValidator(lambda given: None if given == "" else given)


class MadeFrom(BaseModel):
    """The pictures that another one was made from, told by their digests."""

    source: PixelsDigest | None = Field(
        description="of its RGB pixels, in the size that was drawn; null where it began with noise alone"
    )
    mask: PixelsDigest | None = Field(description="of a byte for each latent, 1 where it was drawn anew; null: all was")
    depth: PixelsDigest | None = Field(
        description="of a float32 for each latent, -1 the farthest and 1 the nearest; null: none was looked at"
    )
    laid_into: PixelsDigest | None = Field(
        description="of the RGB pixels that what was drawn is laid into; null: it is the picture"
    )
    controls: list[PixelsDigest] = Field(description="of the RGB pixels of each control picture, in the size drawn")
    image_prompts: list[PixelsDigest] = Field(
        description="of the RGB pixels of each picture that it was to be like, as the image encoder saw them"
    )


class Inspection(BaseModel):
    """What a picture's file says of how it was made."""

    source: Source = Field(
        description="whose form it was read from: ours, an infotext as A1111 writes it, or nothing was found"
    )
    model: str | None = Field(description="the bundle, or what another program calls its checkpoint")
    parameters: str | None = Field(description="the infotext as it stands in the file")
    request: dict[str, JsonValue] = Field(
        description="fields of a request that makes the picture again; what is the default is left out"
    )
    components: dict[str, ComponentPin] = Field(description="what made it, by kind, where it was made here")
    beside: list[ComponentPin] = Field(description="the versions of what the request names itself, such as ControlNets")
    fallback_for: ComponentPin | None = Field(
        description="the VAE decoder that gave no picture, where another made it; else null"
    )
    made_from: MadeFrom | None = Field(description="the pictures that it was made from, where the story tells of any")
    unknown: list[str] = Field(description="the parts of the file's texts that were not understood, cut short")


class VerificationBody(BaseModel):
    """The fields of a form that brings a picture, `image`, and those that it was made from if any."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    user: str | None = Field(None, description="whose request it is, as of a generation")
    priority: Annotated[Priority | None, _EMPTY] = Field(None, description="as of a generation")
    deadline_s: Annotated[float | None, _EMPTY] = Field(None, description="as of a generation")


class VerifiedComponent(BaseModel):
    """One component: the version that the story names, and the one that drew the picture again."""

    kind: str = Field(description="of which kind it is")
    asked: ComponentPin = Field(description="what the story names")
    present: ComponentPin = Field(description="what drew the picture again")


class Verification(BaseModel):
    """Whether a picture is what its story makes."""

    object: Literal["image.verification"] = Field("image.verification", description="always `image.verification`")
    equal: bool = Field(description="whether all pixels are, once the new picture was written as the old one")
    largest_difference: int | None = Field(
        description="0 to 255, of any channel of any pixel; null where the file has another size than its story tells"
    )
    differing_pixels: int | None = Field(description="how many differ in any channel; null likewise")
    output_format: PictureFormat = Field(description="how the new picture was written before the two were compared")
    output_compression: int = Field(description="likewise")
    components: list[VerifiedComponent] = Field(description="those that take part in the picture")
    made_from: MadeFrom | None = Field(description="the pictures that it was made from, where it was made from any")
    request: dict[str, JsonValue] = Field(description="what was drawn, as of `/v1/inspect`")
