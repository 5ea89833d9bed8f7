"""What a server answers. Fields that a newer one adds are left alone."""

from typing import Annotated, Any, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, JsonValue

from services.client.options import PictureFormat


class Answer(BaseModel):
    """The base: read once, never changed."""

    model_config = ConfigDict(frozen=True)


class ComponentPin(Answer):
    """One exact version of a component."""

    name: str
    version: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


class Usage(Answer):
    """What a request took: tokens of text that were read, and latent pixels of all pictures."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class Timings(Answer):
    """Where the time of one picture went, in seconds: the encoders work side by side, the rest one after the other."""

    text_encoder_s: float
    vae_encoder_s: float | None
    queued_s: float
    denoiser_s: float
    vae_decoder_s: float
    file_s: float
    total_s: float


class Picture(Answer):
    """One picture: `data` is the file as the server wrote it, with its story.

    `fallback` is the VAE decoder that made it where the pinned one gave no picture, `latents` the id of its latents
    where they were kept, `timings` None where the server does not say.
    """

    data: Annotated[Base64Bytes, Field(validation_alias="b64_json", repr=False)]
    seed: int
    subseed: int | None
    fallback: ComponentPin | None
    latents: str | None
    timings: Timings | None = None


class Drawing(Answer):
    """The pictures of a request and what made them; `components` are by kind, `beside` what the request named itself.

    `usage` is None for pictures of kept latents, `quality` where the request named its steps.
    """

    pictures: tuple[Picture, ...] = Field(validation_alias="data")
    model: str
    size: str
    output_format: PictureFormat
    quality: str | None
    usage: Usage | None
    prompt_truncated: bool
    negative_prompt_truncated: bool
    components: dict[str, ComponentPin]
    beside: tuple[ComponentPin, ...] = ()
    created: int
    request_id: str | None = None


class Comparison(Answer):
    """Two VAE decoders on the same latents: `sheet` is a PNG of both pictures and the map of their difference.

    `psnr_db` is None where the pictures are identical. `max_difference` is 0..255; the map shows the difference times
    `difference_factor`.
    """

    sheet: bytes = Field(repr=False)
    psnr_db: float | None
    max_difference: int
    difference_factor: int
    seed: int

    @property
    def identical(self) -> bool:
        """Whether both give the same pixels."""
        return self.max_difference == 0


class PixelsDigest(Answer):
    """Which pixels they were, by the SHA-256 of their bytes."""

    sha256: str
    width: int
    height: int


class MadeFrom(Answer):
    """The pictures that another one was made from: what it began with, what held it, what it is like, if any."""

    source: PixelsDigest | None
    mask: PixelsDigest | None
    depth: PixelsDigest | None = None
    laid_into: PixelsDigest | None = None
    controls: tuple[PixelsDigest, ...] = ()
    image_prompts: tuple[PixelsDigest, ...] = ()


class Inspection(Answer):
    """What a picture's file says of how it was made; `request` is what `generate` takes to make it again."""

    source: Literal["latentworks", "a1111", "nothing"]
    model: str | None
    parameters: str | None
    request: dict[str, JsonValue]
    components: dict[str, ComponentPin]
    beside: tuple[ComponentPin, ...] = ()
    fallback_for: ComponentPin | None
    made_from: MadeFrom | None = None
    unknown: tuple[str, ...]


class VerifiedComponent(Answer):
    """One component: the version that the story names, and the one that drew the picture again."""

    kind: str
    asked: ComponentPin
    present: ComponentPin


class Verification(Answer):
    """Whether a picture is what its story makes, once the new one was written as the old one was.

    `largest_difference` is 0..255, of any channel of any pixel; it and `differing_pixels` are None where the file has
    another size than its story tells.
    """

    equal: bool
    largest_difference: int | None
    differing_pixels: int | None
    output_format: PictureFormat
    output_compression: int
    components: tuple[VerifiedComponent, ...]
    made_from: MadeFrom | None
    request: dict[str, JsonValue]


class Model(Answer):
    """A served bundle; `created` is when its server started, in seconds since 1970."""

    id: str
    created: int
    owned_by: str


class Readiness(Answer):
    """A server that can draw: the running replicas of each deployment, and whether its registry answers."""

    status: str
    replicas: dict[str, int]
    registry: Literal["ok", "away"]
    registry_away_s: float | None


class TimelineSpan(Answer):
    """One piece of work on a request: `start_s` is in seconds since the request began.

    `parent` is the id of the span that it is part of, None for the whole request; `facts` is what else is known of it.
    """

    id: int
    parent: int | None
    name: str
    stage: str | None
    component: ComponentPin | None
    replica: str | None
    start_s: float
    seconds: float
    facts: dict[str, bool | int | float | str]


class Timeline(Answer):
    """What became of a request when; each span comes after the one that it is part of.

    `phases` are seconds by the name of what has no parts itself. It began at `started_at`, in seconds since 1970.
    """

    request_id: str
    started_at: float
    total_s: float
    phases: dict[str, float]
    spans: tuple[TimelineSpan, ...] = Field(min_length=1)


class Models(Answer):
    """All served bundles."""

    data: tuple[Model, ...]


class ErrorBody(Answer):
    """What went wrong, in the words of the server."""

    message: str
    param: str | None = None
    code: str | None = None


class Failed(Answer):
    """Every answer that is no success."""

    error: ErrorBody


def public(answer: BaseModel) -> Any:
    """An answer as JSON has it, without the bytes of its pictures."""
    bytes_of: Any = {"data": True, "sheet": True, "picture": {"data"}}
    return answer.model_dump(mode="json", exclude=bytes_of)
