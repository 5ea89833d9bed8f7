"""What a caller may ask for here: the defaults, the limits, the samplers, and the versions to choose among."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from components.contract import NAMED, Contract, Kind
from components.lora import adapted_layers
from components.messages import ImageRequest
from components.reference import DEFAULT_ALIAS, ComponentRef, kind_of, registered_name
from diffusion.samplers import SAMPLERS
from diffusion.samplers.aliases import SAMPLER_NAMES, SCHEDULE_NAMES
from pipeline.errors import RequestError
from pipeline.held import is_controllable
from pipeline.request import RequestRules, check_request, least_fields
from pipeline.tasks.table import takes_image_prompts, tasks_of
from pipeline.trajectories import Trajectories
from pipeline.upscalers import UPSCALERS
from services.ingress.orders.fields import MOST_PARTIAL_IMAGES
from services.ingress.orders.pinning import Pinning
from services.messages import OVERRIDABLE, LiveRecord


class Defaults(BaseModel):
    """What a request has where it names none."""

    size: str = Field(description="`WIDTHxHEIGHT` in pixels; of a picture to edit: its proportions")
    steps: int = Field(description="of the sampler")
    guidance: float = Field(description="how much the prompt insists")
    sampler: str = Field(description="its name")
    schedule: str = Field(description="how sigmas are spread")
    weighting: str = Field(description="how prompts weigh their parts")
    strength: float = Field(description="of a picture to edit; with a mask it is 1")


class Limits(BaseModel):
    """The most of each, and of a side the least too."""

    prompt_characters: int = Field(description="of the prompt, and of the negative prompt")
    steps: int = Field(description="of the sampler")
    guidance: float = Field(description="how much the prompt insists")
    clip_skip: int = Field(description="1 where the text encoder offers its last layer alone")
    images: int = Field(description="of one request")
    partial_images: int = Field(description="0 where the denoiser has no previews")
    boxes: int = Field(description="of one request; 0 where the denoiser looks at none")
    min_side: int = Field(description="the least width and height in pixels")
    side_multiple: int = Field(description="width and height are multiples of it")
    pixels: int = Field(description="of one picture")
    source_pixels: int = Field(description="of a picture or mask that a request brings")
    controls: int = Field(description="pictures that may hold what is drawn; 0 where the denoiser takes none")
    control_scale: float = Field(description="of a control picture")
    loras: int = Field(description="0 where the denoiser takes none")
    image_prompts: int = Field(description="pictures to be like; 0 where the denoiser takes none")


class SamplerChoice(BaseModel):
    """One sampler that walks the bundle's noise schedule."""

    name: str = Field(description="what a request calls it")
    label: str = Field(description="as A1111 calls it, where it does")
    schedules: list[str] = Field(description="the sigma schedules that it walks here at the default steps")


class ScheduleChoice(BaseModel):
    """One sigma schedule."""

    name: str = Field(description="what a request calls it")
    label: str = Field(description="as A1111 calls it")


class VersionChoice(BaseModel):
    """One version that a request may name; one that nobody asked for yet is tried then, and may be refused."""

    name: str = Field(description="`BUNDLE.KIND`")
    version: int = Field(description="its number in the registry")
    sha256: str = Field(description="the digest of all its files")
    live: bool = Field(description="whether it is what a request has that names none; a canary's share aside")
    aliases: list[str] = Field(description="those that point at it")


class Capabilities(BaseModel):
    """What a caller may ask for here."""

    model: str = Field(description="the served bundle")
    tasks: list[str] = Field(description="what it can be asked for: text_to_image, ...; docs/tasks.md lists them")
    defaults: Defaults = Field(description="what a request has that names none")
    limits: Limits = Field(description="what a request may ask for at most")
    samplers: list[SamplerChoice] = Field(description="those that walk the noise schedule of the bundle")
    schedules: list[ScheduleChoice] = Field(description="those that one of the samplers walks")
    upscalers: list[str] = Field(description="what enlarges between two passes; empty where there is one pass alone")
    components: dict[str, list[VersionChoice]] = Field(
        description="by kind: the live version first, then those that are rolled out or that an alias points at"
    )
    named: dict[str, list[VersionChoice]] = Field(
        description="what requests name themselves, as `controls` do, by kind: what aliases point at; what is in "
        "production is `live`, and is what a name alone means"
    )


@dataclass(frozen=True, slots=True)
class CapabilitiesFace:
    """What the face needs of the rest of the server."""

    pinning: Pinning
    rules: RequestRules

    def router(self) -> APIRouter:
        """The face's routes."""
        router = APIRouter(prefix="/v1", tags=["OpenAI images"])
        router.add_api_route("/capabilities", self.show, methods=["GET"], response_model=Capabilities)
        return router

    async def show(self, response: Response) -> Capabilities:
        """Tell what requests may ask for by the versions that are live now."""
        response.headers["cache-control"] = "no-store"
        record = self.pinning.record
        # laying out every walk takes a tenth of a second, once for a denoiser
        return await asyncio.to_thread(capabilities, record, self.rules)


def capabilities(record: LiveRecord, rules: RequestRules) -> Capabilities:
    """What requests may ask for by a record's live versions."""
    denoiser = record.live.contracts[Kind.DENOISER]
    plain = check_request(least_fields(denoiser), denoiser, rules)
    samplers = _samplers(denoiser, plain.steps)
    walked = {schedule for sampler in samplers for schedule in sampler.schedules}
    return Capabilities(
        model=record.live.bundle,
        tasks=list(tasks_of(denoiser)),
        defaults=Defaults(
            size=f"{plain.width}x{plain.height}",
            steps=plain.steps,
            guidance=plain.guidance,
            sampler=plain.sampler,
            schedule=plain.schedule,
            weighting=plain.weighting,
            strength=rules.default_strength,
        ),
        limits=_limits(record.live.contracts, rules, plain),
        samplers=list(samplers),
        schedules=[
            ScheduleChoice(name=name, label=labels[0]) for name, labels in SCHEDULE_NAMES.items() if name in walked
        ],
        upscalers=list(UPSCALERS) if "two_passes" in tasks_of(denoiser) else [],
        components={kind.value: _versions(record, kind) for kind in OVERRIDABLE if kind in record.live.pins},
        named={kind.value: _named(record, kind) for kind in NAMED},
    )


def _limits(contracts: Mapping[Kind, Contract], rules: RequestRules, plain: ImageRequest) -> Limits:
    denoiser = contracts[Kind.DENOISER]
    space, trained = denoiser.latent_space, denoiser.num_train_timesteps
    assert space is not None, "check_request has seen to it"
    assert trained is not None, "check_request has seen to it"
    multiple = space.downscale * denoiser.latent_multiple
    smallest = min(rules.min_side, plain.width, plain.height)
    return Limits(
        prompt_characters=rules.max_prompt_characters,
        steps=min(rules.max_steps, trained),
        guidance=rules.max_guidance,
        clip_skip=contracts[Kind.TEXT_ENCODER].most_clip_skip,
        images=rules.max_images,
        partial_images=0 if denoiser.preview is None else MOST_PARTIAL_IMAGES,
        boxes=min(rules.max_boxes, denoiser.most_boxes),
        min_side=-(-smallest // multiple) * multiple,
        side_multiple=multiple,
        pixels=rules.most_pixels(denoiser),
        source_pixels=rules.max_source_pixels,
        controls=rules.max_controls if is_controllable(denoiser) else 0,
        control_scale=rules.max_control_scale,
        loras=rules.max_loras if adapted_layers(denoiser.inputs) else 0,
        image_prompts=rules.max_image_prompts if takes_image_prompts(denoiser) else 0,
    )


@lru_cache(maxsize=4)
def _samplers(denoiser: Contract, steps: int) -> tuple[SamplerChoice, ...]:
    trajectories = Trajectories.of(denoiser)
    found = []
    for name, row in SAMPLERS.items():
        walked = [one for one in row.sigma_schedules if _walks(trajectories, name, one, steps)]
        if walked:
            found.append(SamplerChoice(name=name, label=_label(name), schedules=walked))
    return tuple(found)


def _walks(trajectories: Trajectories, sampler: str, schedule: str, steps: int) -> bool:
    try:
        trajectories.lay_out(sampler, steps, schedule)
    except RequestError:
        return False
    return True


def _label(sampler: str) -> str:
    # the class in diffusers is nobody's label
    return next((name for name in SAMPLER_NAMES[sampler] if not name.endswith("Scheduler")), sampler)


def _versions(record: LiveRecord, kind: Kind) -> list[VersionChoice]:
    live, name = record.live.pins[kind], registered_name(record.live.bundle, kind)
    aliases = record.aliases.get(name, {})
    beside = {ref for ref in (*record.versions, *aliases.values()) if ref.name == name and ref != live}
    return [_choice(ref, live, aliases.items()) for ref in (live, *sorted(beside, key=lambda ref: ref.version))]


def _named(record: LiveRecord, kind: Kind) -> list[VersionChoice]:
    """The versions of every name of a kind; what is in production is what a name alone means."""
    found = []
    for name, aliases in sorted(record.aliases.items()):
        if kind_of(name) != kind:
            continue
        live = aliases.get(DEFAULT_ALIAS)
        refs = {ref for ref in aliases.values() if ref != live}
        first = () if live is None else (live,)
        found += [_choice(ref, live, aliases.items()) for ref in (*first, *sorted(refs, key=lambda ref: ref.version))]
    return found


def _choice(ref: ComponentRef, live: ComponentRef | None, aliases: Iterable[tuple[str, ComponentRef]]) -> VersionChoice:
    pointing = sorted(alias for alias, at in aliases if at == ref)
    return VersionChoice(**ref.model_dump(), live=ref == live, aliases=pointing)
