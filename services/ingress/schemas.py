"""The bodies of the images face, as OpenAI names them; fields of ours stand beside them at the top level."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from diffusion.batcher_records import Priority
from services.ingress.quality import Quality, ToldQuality
from services.messages import PictureFormat

EventPrefix: TypeAlias = Literal["image_generation", "image_edit"]

# forms of clients send a field that nobody filled in as an empty text
_EMPTY = BeforeValidator(lambda given: None if given == "" else given)

_EXAMPLES: list[JsonValue] = [
    {"prompt": "a red apple, 3d style"},
    {"prompt": "a red apple, 3d style", "n": 2, "seed": 7, "steps": 25, "guidance": 5, "output_format": "webp"},
]


class GenerationBody(BaseModel):
    """A request for pictures. Fields without an effect here take only the values that ask for nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": _EXAMPLES})

    prompt: str = Field(description="what to draw")
    model: Annotated[str | None, _EMPTY] = Field(
        None, description="the name of a served bundle; left out: the only one"
    )
    n: int | None = Field(
        None,
        description="how many pictures, 1 if left out; picture k is drawn with seed + k, or, where subseed_strength "
        "varies the picture of one seed, with subseed + k",
    )
    size: Annotated[str | None, _EMPTY] = Field(
        None, description="`WIDTHxHEIGHT` in pixels; `auto` or left out: the bundle's own"
    )
    response_format: Annotated[Literal["b64_json", "url"] | None, _EMPTY] = Field(
        None, description="b64_json, if left out, or url: a link that shows the picture for a time"
    )
    output_format: Annotated[PictureFormat | None, _EMPTY] = Field(None, description="png if left out")
    output_compression: int | None = Field(
        None, description="0 to 100, for jpeg and webp: the quality, 100 if left out; png loses nothing and takes 100"
    )
    user: str | None = Field(
        None, description="whose request it is: users get equal shares of the denoiser, for each size"
    )
    quality: Annotated[Quality | None, _EMPTY] = Field(
        None,
        description="where steps is left out: low is half of the default steps; auto, if left out, standard and medium "
        "are the default; high and hd are twice, xhigh three and max four times as many",
    )
    style: Annotated[None, _EMPTY] = Field(
        None, description="pictures have the style that the prompt asks for: null alone"
    )
    background: Annotated[Literal["auto", "opaque"] | None, _EMPTY] = Field(None, description="pictures are opaque")
    moderation: Annotated[Literal["auto", "low"] | None, _EMPTY] = Field(None, description="nothing is filtered")
    stream: bool | None = Field(None, description="answer with server-sent events; false if left out")
    partial_images: int | None = Field(
        None,
        description="with stream: 0, if left out, to 3 previews of each picture on its way, spread over its steps",
    )
    progress: bool | None = Field(
        None, description="with stream: tell of every step in events of a type of ours; false if left out"
    )
    negative_prompt: str | None = Field(None, description="what to keep away from")
    weighting: Annotated[str | None, _EMPTY] = Field(
        None,
        description="how both prompts weigh their parts: none takes every sign as text, a1111 reads `(word:1.3)`, "
        "`[word]` and `BREAK`, compel `word+` and `(a phrase)1.3`; left out: the server's own, none unless set",
    )
    clip_skip: int | None = Field(
        None,
        description="which layer of the text encoder the picture is drawn by: 1, if left out, is the last, 2 the one "
        "before it; how many there are is the model's",
    )
    seed: int | None = Field(None, description="a whole number; left out: drawn afresh, and told in the answer")
    steps: int | None = Field(None, description="steps of the sampler")
    guidance: float | None = Field(None, description="0 ignores the prompt, 1 is the prompt alone, more insists")
    guidance_rescale: float | None = Field(
        None, description="0, if left out, to 1: the share of what guidance adds to contrast that is taken back"
    )
    guidance_start: float | None = Field(None, description="guide from this fraction of the steps on, 0 if left out")
    guidance_end: float | None = Field(None, description="guide up to this fraction of the steps, 1 if left out")
    adaptive_guidance: float | None = Field(
        None,
        description="guide no more once the predictions with and without the prompt agree by this cosine, such as "
        "0.99, which saves the row without; left out: never",
    )
    sampler: str | None = Field(None, description="a sampler's name; those of diffusers, A1111 and ComfyUI will do")
    schedule: str | None = Field(None, description="how sigmas are spread: the bundle's own, if left out, karras, ...")
    eta: float | None = Field(None, description="ddim's or tcd's share of fresh noise, 0 to 1; left out: its own")
    rng: str | None = Field(None, description="whose noise a seed gives: torch, if left out, or philox (CUDA's)")
    subseed: int | None = Field(
        None, description="the seed towards which subseed_strength goes; left out: drawn afresh, and told in the answer"
    )
    subseed_strength: float | None = Field(
        None, description="how far to go from the noise of seed, 0 if left out, to that of subseed, 1"
    )

    priority: Priority | None = Field(
        None, description="normal, if left out, high or low: which requests the denoiser serves more"
    )
    components: dict[str, str] | None = Field(
        None,
        description="versions other than the live ones, by kind, such as "
        '`{"vae_decoder": "emoji.vae_decoder@candidate"}` or `"emoji.vae_decoder/2"`; they must fit the rest',
    )
    store_latents: bool | None = Field(
        None, description="keep the final latents for a time, to be decoded again; false if left out"
    )
    deadline_s: float | None = Field(
        None,
        description="seconds from now after which nobody wants the picture; where that cannot be, 504 comes at once",
    )
    on_disconnect: Annotated[Literal["cancel", "keep"] | None, _EMPTY] = Field(
        None,
        description="where the caller goes away: cancel, if left out, or keep: the request is a job, `x-job-id`, that "
        "goes on",
    )


class EditBody(GenerationBody):
    """The fields of a form that brings a picture, `image`, and perhaps a `mask`: what is drawn, and how far from it."""

    strength: Annotated[float | None, _EMPTY] = Field(
        None,
        description="0 to 1: the share of the steps that is walked, from the picture with noise on it; left out: 0.8, "
        "with a mask 1, and for variations 0.6",
    )
    input_fidelity: Annotated[Literal["low"] | None, _EMPTY] = Field(
        None, description="strength says how close to the picture to stay"
    )


class VariationBody(EditBody):
    """The fields of a form that brings a picture to vary."""

    prompt: str = Field("", description="what to draw, if anything but the picture says so")


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


class ErrorDetail(BaseModel):
    """What went wrong; `param` is the field at fault."""

    message: str = Field(description="what went wrong, in words")
    type: str = Field(description="its kind, as OpenAI names kinds")
    param: str | None = Field(description="the field at fault, if it is one")
    code: str | None = Field(description="tells errors of one type apart")


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
