"""Every task, what of a denoiser's contract it needs, and the pipeline of diffusers that it is held against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from components.contract import Contract
from components.lora import adapted_layers


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that a request can ask for.

    `fields` are those of the request that ask for it, beside the prompt. `allowed` says whether a denoiser of a
    contract can do it. `references` are the pipelines of diffusers that the tests compare it with. What is not `served`
    can be asked for in one process only, by `TextToImage`.
    """

    name: str
    what: str
    fields: tuple[str, ...]
    allowed: Callable[[Contract], bool]
    references: tuple[str, ...]
    served: bool = True


def _sources(denoiser: Contract) -> tuple[str, ...]:
    return tuple(part.source for part in denoiser.image_channels)


def _plain(denoiser: Contract) -> bool:
    return not denoiser.image_channels


def _edits_by_instruction(denoiser: Contract) -> bool:
    return _sources(denoiser) == ("image",)


def _looks_at_the_mask(denoiser: Contract) -> bool:
    return _sources(denoiser) == ("mask", "masked_image")


def takes_image_prompts(denoiser: Contract) -> bool:
    """Whether a denoiser of a contract looks at pictures beside the text."""
    return any(spec.name == "image_prompt" for spec in denoiser.inputs)


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task(
                "text_to_image",
                "a picture of a prompt",
                (),
                _plain,
                (
                    "StableDiffusionPipeline",
                    "StableDiffusionXLPipeline",
                    "StableDiffusion3Pipeline",
                    "LatentConsistencyModelPipeline",
                ),
            ),
            Task(
                "image_to_image",
                "a picture changed by a prompt",
                ("image", "strength"),
                _plain,
                (
                    "StableDiffusionImg2ImgPipeline",
                    "StableDiffusionXLImg2ImgPipeline",
                    "StableDiffusion3Img2ImgPipeline",
                ),
            ),
            Task(
                "inpainting",
                "a part of a picture drawn anew; a denoiser that knows of no mask has the rest put back at every step",
                ("image", "mask", "strength"),
                lambda denoiser: _plain(denoiser) or _looks_at_the_mask(denoiser),
                ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline"),
            ),
            Task(
                "super_resolution",
                "a picture drawn larger, by a denoiser that sees it with noise on it",
                ("image", "noise_level"),
                lambda denoiser: denoiser.enlarges,
                ("StableDiffusionUpscalePipeline",),
            ),
            Task(
                "instruction",
                "a picture edited as the prompt says, by a denoiser that sees it and weighs prompt and picture apart",
                ("image", "image_guidance"),
                _edits_by_instruction,
                ("StableDiffusionInstructPix2PixPipeline",),
            ),
            Task(
                "loras",
                "a picture drawn with LoRAs of the request's own",
                ("loras",),
                lambda denoiser: bool(adapted_layers(denoiser.inputs)),
                ("StableDiffusionPipeline", "StableDiffusionXLPipeline"),
            ),
            Task(
                "image_prompts",
                "a picture like others, by an IP-Adapter",
                ("image_prompts", "image_prompt_scale"),
                takes_image_prompts,
                ("StableDiffusionPipeline", "StableDiffusionXLPipeline"),
            ),
        )
    }
)


def tasks_of(denoiser: Contract) -> tuple[str, ...]:
    """The names of the tasks that a server can be asked for with a denoiser of a contract."""
    return tuple(task.name for task in TASKS.values() if task.served and task.allowed(denoiser))
