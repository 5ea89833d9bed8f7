"""What is held against diffusers: one scheduler for each sampler, and one config for each case."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSDEScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)

from diffusion.samplers import find_sampler
from diffusion.schedule import BetaSchedule, NoiseSchedule
from diffusion.sigma_schedules import DEFAULT
from diffusion.spacing import FinalSigma, Spacing, TimestepSpacing
from diffusion.trajectory import Trajectory


@dataclass(frozen=True)
class Row:
    """The diffusers scheduler that a sampler is held against; what it has a field for, its signature says."""

    make: Callable[..., Any]
    config: dict[str, object] = field(default_factory=dict)
    predictions: tuple[str, ...] = ("epsilon", "v_prediction", "sample")
    spacings: tuple[TimestepSpacing, ...] = ("leading", "trailing", "linspace")
    etas: tuple[float | None, ...] = (None,)

    def has(self, name: str) -> bool:
        return name in inspect.signature(self.make).parameters

    @property
    def schedules(self) -> tuple[str, ...]:
        return tuple(name for name in ("karras", "exponential", "beta") if self.has(f"use_{name}_sigmas"))


class ThirdOrderMended(DPMSolverMultistepScheduler):  # type: ignore[misc]
    """DPMSolverMultistepScheduler with one sign of its third-order SDE step turned, and nothing else.

    The coefficient of the second derivative D2 is (1 - e^-2h - 2h) / (2h)^2 - 1/2 there. It has to vanish with h, as
    the dpmsolver++ branch beside it and k-diffusion's sampler have it: + 1/2. test_properties.py shows what it costs.
    """

    def multistep_dpm_solver_third_order_update(
        self, model_output_list: list[torch.Tensor], *args: Any, sample: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        wrong: torch.Tensor = super().multistep_dpm_solver_third_order_update(
            model_output_list, *args, sample=sample, noise=noise
        )
        there, here, before, earlier = (-self.sigmas[self.step_index + ahead].log() for ahead in (1, 0, -1, -2))
        latest, previous, first = model_output_list[-1], model_output_list[-2], model_output_list[-3]
        ratio, earlier_ratio = (here - before) / (there - here), (before - earlier) / (there - here)
        second = ((latest - previous) / ratio - (previous - first) / earlier_ratio) / (ratio + earlier_ratio)
        alpha, _ = self._sigma_to_alpha_sigma_t(self.sigmas[self.step_index + 1])
        mended: torch.Tensor = wrong + alpha * second
        return mended


NO_SAMPLE = ("epsilon", "v_prediction")
DPM_SDE: dict[str, object] = {"algorithm_type": "sde-dpmsolver++"}
FLOW = ("flow",)

ROWS: dict[str, Row] = {
    "ddim": Row(DDIMScheduler, {"clip_sample": False}, etas=(0.0, 1.0)),
    "ddpm": Row(DDPMScheduler, {"clip_sample": False}),
    "euler": Row(EulerDiscreteScheduler),
    "euler_ancestral": Row(EulerAncestralDiscreteScheduler, predictions=NO_SAMPLE),
    "heun": Row(HeunDiscreteScheduler),
    "dpm2": Row(KDPM2DiscreteScheduler, predictions=NO_SAMPLE),
    "dpm2_ancestral": Row(KDPM2AncestralDiscreteScheduler, predictions=NO_SAMPLE),
    "lms": Row(LMSDiscreteScheduler),
    "dpmpp_2m": Row(DPMSolverMultistepScheduler),
    "dpmpp_2m_sde": Row(DPMSolverMultistepScheduler, DPM_SDE),
    "dpmpp_3m_sde": Row(ThirdOrderMended, {**DPM_SDE, "solver_order": 3}),
    "dpmpp_sde": Row(DPMSolverSDEScheduler, {"noise_sampler_seed": 7}, predictions=NO_SAMPLE),
    "pndm": Row(PNDMScheduler, predictions=NO_SAMPLE),
    "deis": Row(DEISMultistepScheduler),
    "unipc": Row(UniPCMultistepScheduler),
    "lcm": Row(LCMScheduler, spacings=("leading",)),
    "tcd": Row(TCDScheduler, spacings=("leading",), etas=(None, 0.0, 1.0)),
    "flow_euler": Row(FlowMatchEulerDiscreteScheduler, predictions=FLOW, spacings=()),
    "flow_heun": Row(FlowMatchHeunDiscreteScheduler, predictions=FLOW, spacings=()),
}

BETA_SAMPLERS = [name for name, row in ROWS.items() if row.spacings]
STEPS = (1, 2, 3, 5, 10, 25, 50)


@dataclass(frozen=True)
class Case:
    """One scheduler config, and the sampler asked for; a field left None is absent from the config."""

    sampler: str
    prediction_type: str = "epsilon"
    beta_schedule: BetaSchedule = "scaled_linear"
    timestep_spacing: TimestepSpacing | None = "leading"
    schedule: str = DEFAULT
    zero_snr: bool = False
    final: FinalSigma | None = None
    alpha_to_one: bool | None = True
    offset: int = 0
    eta: float | None = None
    skip_prk_steps: bool = True

    @property
    def name(self) -> str:
        parts = [self.sampler, self.prediction_type, self.beta_schedule, str(self.timestep_spacing), self.schedule]
        parts += ["zerosnr"] * self.zero_snr + [f"offset{self.offset}"] * bool(self.offset)
        parts += [] if self.alpha_to_one else [f"one{self.alpha_to_one}"]
        parts += [] if self.skip_prk_steps else ["prk"]
        named = {"final": self.final, "eta": self.eta}
        return "-".join(parts + [f"{name}{value}" for name, value in named.items() if value is not None])

    def scheduler(self) -> Any:
        row = ROWS[self.sampler]
        config = row.config | {
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": self.beta_schedule,
            "prediction_type": self.prediction_type,
            "steps_offset": self.offset,
        }
        config |= {"timestep_spacing": self.timestep_spacing} if self.timestep_spacing is not None else {}
        config |= {"rescale_betas_zero_snr": self.zero_snr} if row.has("rescale_betas_zero_snr") else {}
        config |= {"final_sigmas_type": self.final} if self.final is not None else {}
        if self.alpha_to_one is not None and row.has("set_alpha_to_one"):
            config["set_alpha_to_one"] = self.alpha_to_one
        config |= {"skip_prk_steps": self.skip_prk_steps} if row.has("skip_prk_steps") else {}
        config |= {f"use_{self.schedule}_sigmas": True} if self.schedule != DEFAULT else {}
        scheduler = row.make(**config)
        if self.zero_snr and self.cosine:
            # The first sigmas of this table hang on the last bit of a square root, which torch on x86 rounds either
            # way. test_schedule.py compares the tables; here both sides walk the same one.
            last = scheduler.alphas_cumprod[-1].clone()
            scheduler.alphas_cumprod = torch.tensor(self.noise_schedule.alphas_cumprod, dtype=torch.float32)
            scheduler.alphas_cumprod[-1] = last
            if self.alpha_to_one is False:
                scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
        return scheduler

    @property
    def cosine(self) -> bool:
        return self.beta_schedule == "squaredcos_cap_v2"

    @property
    def noise_schedule(self) -> NoiseSchedule:
        return NoiseSchedule(1000, self.beta_schedule, 0.00085, 0.012, self.zero_snr)

    def trajectory(self, steps: int) -> Trajectory:
        to_one = True if self.alpha_to_one is None else self.alpha_to_one
        final: FinalSigma = "zero" if self.final is None else self.final
        spacing = Spacing(self.timestep_spacing, self.offset, to_one, final, self.skip_prk_steps)
        return find_sampler(self.sampler).trajectory(
            self.noise_schedule, spacing, steps, sigma_schedule=self.schedule, prediction_type=self.prediction_type
        )
