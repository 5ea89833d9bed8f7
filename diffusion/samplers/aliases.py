"""The names that others have for our samplers and schedules, in one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from diffusion.errors import unknown_name
from diffusion.samplers.table import SAMPLERS
from diffusion.sigma_schedules import DEFAULT, SIGMA_SCHEDULES


@dataclass(frozen=True, slots=True)
class Choice:
    """A sampler and a sigma schedule, by our names."""

    sampler: str
    schedule: str = DEFAULT


# ours: the class in diffusers, the labels in A1111 and its forks, the names in ComfyUI
SAMPLER_NAMES: Mapping[str, tuple[str, ...]] = {
    "ddim": ("DDIMScheduler", "DDIM"),
    "ddpm": ("DDPMScheduler", "DDPM"),
    "euler": ("EulerDiscreteScheduler", "Euler"),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", "Euler a"),
    "heun": ("HeunDiscreteScheduler", "Heun"),
    "dpm2": ("KDPM2DiscreteScheduler", "DPM2", "dpm_2"),
    "dpm2_ancestral": ("KDPM2AncestralDiscreteScheduler", "DPM2 a", "dpm_2_ancestral"),
    "lms": ("LMSDiscreteScheduler", "LMS"),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", "DPM++ 2M"),
    "dpmpp_2m_sde": ("DPM++ 2M SDE", "dpmpp_2m_sde_gpu"),
    "dpmpp_3m_sde": ("DPM++ 3M SDE", "dpmpp_3m_sde_gpu"),
    "dpmpp_sde": ("DPMSolverSDEScheduler", "DPM++ SDE", "dpmpp_sde_gpu"),
    "dpmpp_2s_ancestral": ("DPM++ 2S a",),
    "pndm": ("PNDMScheduler", "PLMS"),
    "deis": ("DEISMultistepScheduler", "DEIS"),
    "unipc": ("UniPCMultistepScheduler", "UniPC", "uni_pc", "uni_pc_bh2"),
    "lcm": ("LCMScheduler", "LCM"),
    "tcd": ("TCDScheduler", "TCD"),
    "flow_euler": ("FlowMatchEulerDiscreteScheduler",),
    "flow_heun": ("FlowMatchHeunDiscreteScheduler",),
}

SCHEDULE_NAMES: Mapping[str, tuple[str, ...]] = {
    DEFAULT: ("Automatic", "normal"),
    "karras": ("Karras",),
    "exponential": ("Exponential",),
    "beta": ("Beta",),
    "sgm_uniform": ("SGM Uniform",),
    "simple": ("Simple",),
    "align_your_steps": ("Align Your Steps",),
    "align_your_steps_sdxl": ("Align Your Steps XL",),
}


def _choices() -> dict[str, Choice]:
    named: dict[str, Choice] = {}
    for sampler in SAMPLERS:
        for label in (sampler, *SAMPLER_NAMES[sampler]):
            named[label] = Choice(sampler)
            if SAMPLERS[sampler].conventions.takes_schedules:
                suffixes = ((schedule, suffix) for schedule, names in SCHEDULE_NAMES.items() for suffix in names)
                # "DPM++ 2M Karras", as A1111 wrote it before the schedule had a field of its own
                named |= {f"{label} {suffix}": Choice(sampler, schedule) for schedule, suffix in suffixes}
    return named


CHOICES: Mapping[str, Choice] = MappingProxyType(_choices())
_FOLDED = {name.casefold(): choice for name, choice in CHOICES.items()}
_SCHEDULES_FOLDED = {
    name.casefold(): schedule for schedule, names in SCHEDULE_NAMES.items() for name in (schedule, *names)
}


def find_choice(name: str) -> Choice:
    """Look up any name of a sampler, perhaps with a schedule after it, in any case; raises UnknownNameError."""
    if name.casefold() not in _FOLDED:
        raise unknown_name("sampler", name, SAMPLERS)
    return _FOLDED[name.casefold()]


def find_schedule_name(name: str) -> str:
    """Look up any name of a sigma schedule, in any case; raises UnknownNameError."""
    if name.casefold() not in _SCHEDULES_FOLDED:
        raise unknown_name("schedule", name, SIGMA_SCHEDULES)
    return _SCHEDULES_FOLDED[name.casefold()]
