"""The table of samplers, with what each one's diffusers scheduler takes for granted."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from types import MappingProxyType

from diffusion.arrays import Array
from diffusion.errors import unknown_name
from diffusion.plan import Conventions
from diffusion.samplers.consistency import TCD_ETA, lcm, tcd
from diffusion.samplers.coroutine import Draw, Sampler
from diffusion.samplers.ddim import ddim, ddpm
from diffusion.samplers.euler import euler, euler_ancestral, heun
from diffusion.samplers.linear_multistep import deis, lms, pndm
from diffusion.samplers.midpoint import dpm2, dpm2_ancestral, dpmpp_2s_ancestral, dpmpp_sde
from diffusion.samplers.multistep import dpmpp_2m, dpmpp_2m_sde, dpmpp_3m_sde
from diffusion.samplers.row import SamplerRow
from diffusion.samplers.unipc import unipc
from diffusion.trajectory import EULER_ZERO_SNR_SIGMA, ZERO_SNR_SIGMA, Trajectory


def _plain(
    name: str, sampler: Callable[[Array, Trajectory], Sampler], order: int, conventions: Conventions, flow: bool = False
) -> SamplerRow:
    # for the docstring: the page of samplers reads it
    @wraps(sampler)
    def start(latents: Array, trajectory: Trajectory, _eta: float, _draw: Draw | None) -> Sampler:
        return sampler(latents, trajectory)

    return SamplerRow(name, start, conventions, flow=flow, order=order)


def _noisy(
    name: str, sampler: Callable[[Array, Trajectory, Draw | None], Sampler], conventions: Conventions
) -> SamplerRow:
    @wraps(sampler)
    def start(latents: Array, trajectory: Trajectory, _eta: float, draw: Draw | None) -> Sampler:
        return sampler(latents, trajectory, draw)

    return SamplerRow(name, start, conventions, draws=True)


# the schedulers that follow k-diffusion: fractional timesteps, latents of sigma's scale
_K = Conventions(default_spacing="linspace", timestep_rule="exact", starts="sigma")
_K_BETWEEN = replace(_K, asks="between", karras_rule="rounded")
_K_ANCESTRAL = replace(_K_BETWEEN, asks="between ancestral")

# the schedulers on whole timesteps and latents of unit variance
_WHOLE = Conventions(
    default_spacing="leading", timestep_rule="rounded", zero_snr_sigma=ZERO_SNR_SIGMA, takes_schedules=False
)
_DISTILLED = replace(_WHOLE, places="distilled")

# the multistep schedulers of the DPM-Solver line
_DPM = Conventions(
    default_spacing="linspace",
    timestep_rule="rounded",
    ends="final_sigmas_type",
    places="one more",
    ranges="table",
    karras_rule="rounded, truncated for cosine",
    sigma_rule="truncated",
)

_ROWS = (
    SamplerRow("ddim", ddim, replace(_WHOLE, lands="stride", ends="set_alpha_to_one"), takes_eta=True, order=1),
    _noisy("ddpm", ddpm, _WHOLE),
    _plain("euler", euler, 1, replace(_K, ends="final_sigmas_type", interpolates=True)),
    _noisy("euler_ancestral", euler_ancestral, _K),
    _plain("heun", heun, 2, replace(_K, asks="where it lands")),
    _plain("dpm2", dpm2, 2, _K_BETWEEN),
    _noisy("dpm2_ancestral", dpm2_ancestral, _K_ANCESTRAL),
    _plain("lms", lms, 2, _K),
    _plain("dpmpp_2m", dpmpp_2m, 2, _DPM),
    _noisy("dpmpp_2m_sde", dpmpp_2m_sde, _DPM),
    _noisy("dpmpp_3m_sde", dpmpp_3m_sde, _DPM),
    _noisy("dpmpp_sde", dpmpp_sde, replace(_K, asks="between")),
    _noisy("dpmpp_2s_ancestral", dpmpp_2s_ancestral, replace(_K_ANCESTRAL, karras_rule="exact")),
    replace(
        _plain(
            "pndm",
            pndm,
            2,
            replace(
                _WHOLE,
                lands="stride",
                ends="set_alpha_to_one",
                places="second twice",
                zero_snr_sigma=EULER_ZERO_SNR_SIGMA,
            ),
        ),
        wide_answers=True,
    ),
    _plain("deis", deis, 2, replace(_DPM, ends="sigma_min", karras_rule="rounded")),
    _plain("unipc", unipc, 2, replace(_DPM, karras_rule="rounded")),
    _noisy("lcm", lcm, _DISTILLED),
    SamplerRow("tcd", tcd, _DISTILLED, takes_eta=True, eta=TCD_ETA, draws=True),
    _plain("flow_euler", euler, 1, _K, flow=True),
    _plain("flow_heun", heun, 2, replace(_K, asks="where it lands"), flow=True),
)

SAMPLERS: Mapping[str, SamplerRow] = MappingProxyType({row.name: row for row in _ROWS})


def find_sampler(name: str) -> SamplerRow:
    """Look a sampler up by name; raises UnknownNameError listing the choices."""
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    return SAMPLERS[name]
