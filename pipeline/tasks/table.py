"""Every task, what of a denoiser's contract it needs, and the pipeline of diffusers that it is held against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from components.contract import IMAGE_PROMPT, Contract, Kind
from components.lora import adapted_layers
from pipeline.held import is_controllable


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
    return denoiser.reads_texts and not denoiser.image_channels


def _edits_by_instruction(denoiser: Contract) -> bool:
    return _sources(denoiser) == ("image",)


def _looks_at_the_mask(denoiser: Contract) -> bool:
    return _sources(denoiser) == ("mask", "masked_image")


def _looks_at_depth(denoiser: Contract) -> bool:
    return _sources(denoiser) == ("depth",)


def _refines(denoiser: Contract) -> bool:
    return "aesthetic_score" in denoiser.time_ids


def _held_by(kind: Kind, denoiser: Contract) -> bool:
    return denoiser.reads_texts and is_controllable(denoiser, (kind,))


def takes_image_prompts(denoiser: Contract) -> bool:
    """Whether a denoiser of a contract looks at pictures beside the text."""
    return denoiser.reads_texts and any(spec.name == IMAGE_PROMPT for spec in denoiser.inputs)


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
                "two_passes",
                "a picture of a prompt drawn small, enlarged as latents or as pixels, and drawn over from there",
                ("hires",),
                _plain,
                ("StableDiffusionImg2ImgPipeline", "StableDiffusionXLImg2ImgPipeline"),
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
                ("image", "mask", "strength", "mask_blur", "padding_mask_crop"),
                lambda denoiser: _plain(denoiser) or _looks_at_the_mask(denoiser) or _looks_at_depth(denoiser),
                ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline"),
            ),
            Task(
                "depth",
                "a picture changed by a prompt, by a denoiser that sees how near things are",
                ("image", "depth", "strength"),
                _looks_at_depth,
                ("StableDiffusionDepth2ImgPipeline",),
            ),
            Task(
                "super_resolution",
                "a picture drawn larger, by a denoiser that sees it with noise on it",
                ("image", "noise_level"),
                lambda denoiser: denoiser.sees_pixels,
                ("StableDiffusionUpscalePipeline",),
            ),
            Task(
                "latent_super_resolution",
                "a picture drawn twice as large, by a denoiser that sees its latents",
                ("image",),
                lambda denoiser: denoiser.enlarges and not denoiser.sees_pixels,
                ("StableDiffusionLatentUpscalePipeline",),
            ),
            Task(
                "instruction",
                "a picture edited as the prompt says, by a denoiser that sees it and weighs prompt and picture apart",
                ("image", "image_guidance"),
                _edits_by_instruction,
                ("StableDiffusionInstructPix2PixPipeline",),
            ),
            Task(
                "controlnet",
                "a picture held by control pictures, such as edges, each by a ControlNet and for its part of the walk",
                ("controls",),
                partial(_held_by, Kind.CONTROLNET),
                (
                    "StableDiffusionControlNetPipeline",
                    "StableDiffusionControlNetImg2ImgPipeline",
                    "StableDiffusionControlNetInpaintPipeline",
                    "StableDiffusionXLControlNetPipeline",
                    "StableDiffusionXLControlNetImg2ImgPipeline",
                    "StableDiffusionXLControlNetInpaintPipeline",
                ),
            ),
            Task(
                "adapter",
                "a picture held by control pictures, each by a T2I-Adapter whose features are made once",
                ("controls",),
                partial(_held_by, Kind.ADAPTER),
                ("StableDiffusionAdapterPipeline", "StableDiffusionXLAdapterPipeline"),
            ),
            Task(
                "hand_over",
                "a picture that SDXL's base begins and its refiner finishes, from a noise level on",
                ("start", "end"),
                _refines,
                ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"),
                served=False,
            ),
            Task(
                "skip_layers",
                "a picture led away from what the denoiser draws without some of its layers",
                (
                    "skip_layers",
                    "skip_layer_guidance",
                    "skip_layer_guidance_start",
                    "skip_layer_guidance_end",
                ),
                lambda denoiser: denoiser.skippable_layers > 0,
                ("StableDiffusion3Pipeline",),
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
            Task(
                "image_variation",
                "a picture like another, by a denoiser that looks at it in place of a prompt",
                ("image_prompts",),
                lambda denoiser: not denoiser.reads_texts,
                ("StableDiffusionImageVariationPipeline",),
                served=False,
            ),
            Task(
                "boxes",
                "a picture with what phrases say in their boxes, by a denoiser that looks at them for a share of its "
                "walk (GLIGEN); from noise alone",
                ("boxes", "boxes_end"),
                lambda denoiser: denoiser.most_boxes > 0,
                ("StableDiffusionGLIGENPipeline",),
            ),
        )
    }
)


def tasks_of(denoiser: Contract) -> tuple[str, ...]:
    """The names of the tasks that a server can be asked for with a denoiser of a contract."""
    return tuple(task.name for task in TASKS.values() if task.served and task.allowed(denoiser))
