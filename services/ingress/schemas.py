"""The bodies of the images face, as OpenAI names them; fields of ours stand beside them at the top level."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from diffusion.batcher_records import Priority
from services.messages import PictureFormat

_EXAMPLES: list[JsonValue] = [
    {"prompt": "a red apple, 3d style"},
    {"prompt": "a red apple, 3d style", "n": 2, "seed": 7, "steps": 25, "guidance": 5, "output_format": "webp"},
]


class GenerationBody(BaseModel):
    """A request for pictures. Fields without an effect here take only the values that ask for nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": _EXAMPLES})

    prompt: str = Field(description="what to draw")
    model: str | None = Field(None, description="the name of a served bundle; left out: the only one")
    n: int | None = Field(
        None,
        description="how many pictures, 1 if left out; picture k is drawn with seed + k, or, where subseed_strength "
        "varies the picture of one seed, with subseed + k",
    )
    size: str | None = Field(None, description="`WIDTHxHEIGHT` in pixels; `auto` or left out: the bundle's own")
    response_format: Literal["b64_json"] | None = None
    output_format: PictureFormat | None = Field(None, description="png if left out")
    output_compression: int | None = Field(
        None, description="0 to 100, for jpeg and webp: the quality, 100 if left out; png loses nothing and takes 100"
    )
    user: str | None = Field(
        None, description="whose request it is: users get equal shares of the denoiser, for each size"
    )
    quality: Literal["auto", "standard"] | None = None
    style: None = None
    background: Literal["auto", "opaque"] | None = None
    moderation: Literal["auto"] | None = None
    stream: Literal[False] | None = None
    partial_images: Literal[0] | None = None
    negative_prompt: str | None = Field(None, description="what to keep away from")
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


class ComponentPin(BaseModel):
    """One exact version of a component."""

    name: str
    version: int
    sha256: str


class GeneratedImage(BaseModel):
    """One picture."""

    b64_json: str = Field(description="the file, in base64")
    seed: int = Field(description="alone, this seed, with the subseed if there is one, gives this picture")
    subseed: int | None = Field(description="null where subseed_strength is 0")
    fallback: ComponentPin | None = Field(
        None, description="the VAE decoder that made it, where the pinned one gave no picture; else null"
    )
    latents: str | None = Field(None, description="the id of its latents, where they were stored")


class GenerationAnswer(BaseModel):
    """The pictures and what made them."""

    created: int = Field(description="seconds since 1970")
    data: list[GeneratedImage]
    model: str
    output_format: PictureFormat
    size: str
    seed: int = Field(description="the first picture's")
    prompt_truncated: bool = Field(description="whether the prompt was longer than the model reads, and was cut")
    negative_prompt_truncated: bool
    components: dict[str, ComponentPin] = Field(description="by kind")


class ErrorDetail(BaseModel):
    """What went wrong; `param` is the field at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """Every answer that is no success."""

    error: ErrorDetail


class Model(BaseModel):
    """A served bundle, as OpenAI lists models."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["latentworks"] = "latentworks"


class ModelList(BaseModel):
    """All served bundles."""

    object: Literal["list"] = "list"
    data: list[Model]
