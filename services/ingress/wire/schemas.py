"""The answers and events of the images face, as OpenAI names them; what is ours stands beside that at the top level."""

from typing import Literal, TypeAlias

from pydantic import BaseModel, Field

from services.failures import ErrorDetail
from services.messages import PictureFormat, ToldQuality

EventPrefix: TypeAlias = Literal["image_generation", "image_edit"]


class ComponentPin(BaseModel):
    """One exact version of a component."""

    name: str = Field(description="`BUNDLE.KIND`")
    version: int = Field(description="its number in the registry")
    sha256: str = Field(description="the digest of all its files")


class StageTimings(BaseModel):
    """Where the time of one picture went, in seconds; the two encoders work side by side."""

    text_encoder_s: float = Field(description="until both texts were encoded")
    vae_encoder_s: float | None = Field(description="until the picture to start from was encoded; null without one")
    queued_s: float = Field(description="what it waited for its first step")
    denoiser_s: float = Field(description="from its first step to the last, beside whatever else is drawn")
    vae_decoder_s: float = Field(description="until its pixels were there")
    file_s: float = Field(description="the writing of the file")
    total_s: float = Field(description="from when the request was admitted; what lies between the stages counts too")


class GeneratedImage(BaseModel):
    """One picture."""

    b64_json: str | None = Field(description="the file, in base64; null with response_format url")
    url: str | None = Field(None, description="shows the file for a time, with response_format url; else null")
    seed: int = Field(description="alone, this seed, with the subseed if there is one, gives this picture")
    subseed: int | None = Field(description="null where subseed_strength is 0")
    fallback: ComponentPin | None = Field(
        None, description="the VAE decoder that made it, where the pinned one gave no picture; else null"
    )
    latents: str | None = Field(None, description="the id of its latents, where they were stored")
    timings: StageTimings | None = Field(None, description="where the time went; null for a job and for kept latents")


class InputTokens(BaseModel):
    """What the input's tokens were."""

    text_tokens: int = Field(description="of both prompts")
    image_tokens: int = Field(description="always 0: a picture to start from is not read as tokens")


class OutputTokens(BaseModel):
    """What the output's tokens are."""

    image_tokens: int = Field(description="one for each latent pixel")
    text_tokens: int = Field(0, description="always 0")


class Usage(BaseModel):
    """What a request took, in tokens."""

    input_tokens: int = Field(description="of the prompt and the negative prompt, as far as the model read them")
    output_tokens: int = Field(description="one for each latent pixel of every picture, however many steps")
    total_tokens: int = Field(description="both together")
    input_tokens_details: InputTokens = Field(description="what they are of")
    output_tokens_details: OutputTokens = Field(description="what they are of")


class GenerationAnswer(BaseModel):
    """The pictures and what made them."""

    created: int = Field(description="seconds since 1970")
    data: list[GeneratedImage] = Field(description="the pictures, in the order of their seeds")
    model: str = Field(description="the bundle")
    output_format: PictureFormat = Field(description="of every picture")
    size: str = Field(description="`WIDTHxHEIGHT` in pixels")
    quality: ToldQuality | None = Field(None, description="null where the request's steps decided")
    background: Literal["opaque"] = Field("opaque", description="pictures are opaque")
    usage: Usage | None = Field(None, description="null for pictures of kept latents, which read no text")
    seed: int = Field(description="the first picture's")
    prompt_truncated: bool = Field(description="whether the prompt was longer than the model reads, and was cut")
    negative_prompt_truncated: bool = Field(description="the same of the negative prompt")
    components: dict[str, ComponentPin] = Field(description="by kind")
    beside: list[ComponentPin] = Field(
        [], description="the versions of what the request names itself, as `controls` do"
    )


class ImageEvent(BaseModel):
    """What every event with a picture in it says; `image_index` is ours."""

    type: str = Field(description="names the event")
    b64_json: str = Field(description="the file, in base64")
    created_at: int = Field(description="seconds since 1970")
    size: str = Field(description="`WIDTHxHEIGHT` in pixels")
    quality: ToldQuality | Literal["auto"] = Field(description="auto where the request's steps decided")
    background: Literal["opaque"] = Field("opaque", description="pictures are opaque")
    output_format: PictureFormat = Field(description="of the file")
    image_index: int = Field(description="which of the n pictures, from 0")


class PartialImageEvent(ImageEvent):
    """A preview of an unfinished picture, in its size."""

    partial_image_index: int = Field(description="from 0, for each picture")


class CompletedEvent(ImageEvent):
    """A finished picture; what stands after its usage is ours."""

    usage: Usage = Field(description="this picture's; the text counts with the first one")
    seed: int = Field(description="alone, this seed, with the subseed if there is one, gives this picture")
    subseed: int | None = Field(description="null where subseed_strength is 0")
    fallback: ComponentPin | None = Field(
        description="the VAE decoder that made it, where the pinned one gave no picture; else null"
    )
    latents: str | None = Field(description="the id of its latents, where they were stored")
    timings: StageTimings | None = Field(description="where the time went")
    prompt_truncated: bool = Field(description="whether the prompt was longer than the model reads, and was cut")
    negative_prompt_truncated: bool = Field(description="the same of the negative prompt")


class ProgressEvent(BaseModel):
    """How far a picture is: sent where the request asks for `progress`, as OpenAI has no such event."""

    type: str = Field(description="names the event")
    created_at: int = Field(description="seconds since 1970")
    image_index: int = Field(description="which of the n pictures, from 0")
    step: int = Field(description="how many steps are done")
    steps: int = Field(description="how many there are")


class QueuedEvent(BaseModel):
    """Which place in the queue a picture has, where it waits: sent with `progress`, as it comes nearer to its turn."""

    type: str = Field(description="names the event")
    created_at: int = Field(description="seconds since 1970")
    image_index: int = Field(description="which of the n pictures, from 0")
    position: int = Field(description="1 for the next one; those before it came earlier")


class ErrorAnswer(BaseModel):
    """Every answer that is no success."""

    error: ErrorDetail = Field(description="what went wrong")


class Model(BaseModel):
    """A served bundle, as OpenAI lists models."""

    id: str = Field(description="the name to ask for")
    object: Literal["model"] = Field("model", description="always `model`")
    created: int = Field(description="seconds since 1970")
    owned_by: Literal["latentworks"] = Field("latentworks", description="always `latentworks`")


class ModelList(BaseModel):
    """All served bundles."""

    object: Literal["list"] = Field("list", description="always `list`")
    data: list[Model] = Field(description="the bundles")
