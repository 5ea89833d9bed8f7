"""A diffusers scheduler's configuration as a contract says it."""

import math
from collections.abc import Mapping
from typing import Any

import diffusers
from pydantic import ValidationError

from components.contract import DynamicShift, FlowSchedule, NoiseSchedule
from exporters.errors import ExportError

_NOISE = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
_FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")

_SIGMA_SCHEDULES = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
}

# of prediction types, which diffusers still reads
_OLDER_NAMES = {"original_sample": "sample"}

# What would change the walk and is in no contract: the value that leaves it as it is.
_NEUTRAL: Mapping[str, object] = {
    "euler_at_final": False,
    "invert_sigmas": False,
    "lambda_min_clipped": -math.inf,
    "original_inference_steps": 50,
    "shift_terminal": None,
    "sigma_max": None,
    "sigma_min": None,
    "stochastic_sampling": False,
    "thresholding": False,
    "timestep_scaling": 10.0,
    "timestep_type": "discrete",
    "trained_betas": None,
    "use_flow_sigmas": False,
    "use_lu_lambdas": False,
}


def read_schedule(config: Mapping[str, Any], *, offset_of_one: bool = True) -> NoiseSchedule | FlowSchedule:
    """Say how the denoiser was trained and how its scheduler walks, from the content of a `scheduler_config.json`.

    With `offset_of_one` its timesteps are offset by 1 whatever the configuration says, as in StableDiffusionPipeline.
    What an earlier scheduler left in the configuration counts: diffusers' from_config hands it on to the next one too.

    Raises:
        ExportError: the scheduler is of an unknown class, or asks for something that no contract can say.
    """
    name = config.get("_class_name")
    if name not in (*_NOISE, *_FLOW):
        raise ExportError(f"scheduler: is {name}; one of {', '.join((*_NOISE, *_FLOW))} can be exported")
    # the class fills in its own defaults for what the file leaves out
    try:
        full = getattr(diffusers, name).from_config(config).config
    except (ImportError, NotImplementedError, TypeError, ValueError) as error:
        raise ExportError(f"scheduler: diffusers refuses its configuration: {error}") from None
    for field, neutral in _NEUTRAL.items():
        if full.get(field, neutral) != neutral:
            raise ExportError(f"scheduler: {field}={full[field]!r} is not supported")
    try:
        return _flow_schedule(full) if name in _FLOW else _noise_schedule(full, config, offset_of_one)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = f"{first['loc'][-1]}={first['input']!r}: " if first["loc"] else ""
        raise ExportError(f"scheduler: {where}{first['msg']}") from None


def _noise_schedule(full: Mapping[str, Any], config: Mapping[str, Any], offset_of_one: bool) -> NoiseSchedule:
    if full.get("use_dynamic_shifting", False):
        raise ExportError("scheduler: use_dynamic_shifting=True is not supported where betas make the noise")
    predicted = full.get("prediction_type", "epsilon")
    return NoiseSchedule(
        prediction_type=_OLDER_NAMES.get(predicted, predicted),
        num_train_timesteps=full["num_train_timesteps"],
        beta_schedule=full["beta_schedule"],
        beta_start=full["beta_start"],
        beta_end=full["beta_end"],
        rescale_betas_zero_snr=full.get("rescale_betas_zero_snr", False),
        timestep_spacing=config.get("timestep_spacing"),
        steps_offset=1 if offset_of_one else full.get("steps_offset", 0),
        set_alpha_to_one=full.get("set_alpha_to_one", True),
        # PNDMScheduler's own default is false, for a config that does not say; nobody who asks for PLMS expects that
        skip_prk_steps=config.get("skip_prk_steps", True),
        final_sigmas_type=full.get("final_sigmas_type", "zero"),
        sigma_schedule=_sigma_schedule(full),
        interpolation_type=full.get("interpolation_type", "linear"),
    )


def _flow_schedule(full: Mapping[str, Any]) -> FlowSchedule:
    dynamic = None
    if full.get("use_dynamic_shifting", False):
        dynamic = DynamicShift(
            base_shift=full["base_shift"],
            max_shift=full["max_shift"],
            base_image_seq_len=full["base_image_seq_len"],
            max_image_seq_len=full["max_image_seq_len"],
            time_shift_type=full["time_shift_type"],
        )
    return FlowSchedule(
        num_train_timesteps=full["num_train_timesteps"],
        shift=full["shift"],
        dynamic=dynamic,
        sigma_schedule=_sigma_schedule(full),
    )


def _sigma_schedule(full: Mapping[str, Any]) -> Any:
    chosen = [(field, schedule) for field, schedule in _SIGMA_SCHEDULES.items() if full.get(field, False)]
    if len(chosen) > 1:
        raise ExportError(f"scheduler: {' and '.join(field for field, _ in chosen)}: only one of them can be true")
    return chosen[0][1] if chosen else "default"
