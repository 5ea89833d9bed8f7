"""Every task, what of a denoiser's contract it needs, and the pipeline of diffusers that it is held against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from components.contract import Contract


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that a request can ask for.

    `fields` are those of the request that ask for it, beside the prompt. `allowed` says whether a denoiser of a
    contract can do it. `references` are the pipelines of diffusers that the tests compare it with.
    """

    name: str
    what: str
    fields: tuple[str, ...]
    allowed: Callable[[Contract], bool]
    references: tuple[str, ...]


def _sources(denoiser: Contract) -> tuple[str, ...]:
    return tuple(part.source for part in denoiser.image_channels)


def _plain(denoiser: Contract) -> bool:
    return not denoiser.image_channels


def _looks_at_the_mask(denoiser: Contract) -> bool:
    return _sources(denoiser) == ("mask", "masked_image")


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task(
                "text_to_image",
                "a picture of a prompt",
                (),
                _plain,
                ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline"),
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
        )
    }
)


def tasks_of(denoiser: Contract) -> tuple[str, ...]:
    """The names of the tasks that a denoiser of a contract can do."""
    return tuple(task.name for task in TASKS.values() if task.allowed(denoiser))
