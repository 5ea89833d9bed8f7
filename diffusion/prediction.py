"""What a network predicts, and the denoised estimate that follows from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from diffusion.arrays import Array, PerRow, per_row
from diffusion.errors import DiffusionError, unknown_name
from diffusion.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Prediction:
    """One meaning of a network's output.

    `network_input(latents, sigma)` gives what the network expects to see; `denoised(output, latents, sigma)` gives the
    estimate of x0 from its output. Latents and output are [B, ...] float32; sigma is one number or [B], at least 0.
    `bears_zero_snr` is False where the output says nothing about x0 when the input is nothing but noise.
    """

    name: str
    network_input: Callable[[Array, PerRow], Array]
    denoised: Callable[[Array, Array, PerRow], Array]
    bears_zero_snr: bool = True

    def check(self, trajectory: Trajectory) -> None:
        """Raise DiffusionError when the walk starts at zero terminal SNR and this prediction cannot."""
        if trajectory.starts_at_zero_snr and not self.bears_zero_snr:
            limit = "v_prediction or sample where the first timestep has zero terminal SNR"
            raise DiffusionError("prediction_type", self.name, limit)


def scale_input(latents: Array, sigma: PerRow) -> Array:
    """Bring x = x0 + sigma * noise to the unit variance of a variance-preserving network: x / sqrt(sigma^2 + 1).

    Karras et al. 2022, table 1 (c_in of VP).
    """
    sigmas = per_row("sigma", sigma, latents)
    scaled: Array = latents / np.sqrt(sigmas**2 + np.float32(1))
    return scaled


def quarter_log(sigma: float) -> np.float32:
    """What a network is told of sigma, over 0, in place of a training timestep: ln(sigma) / 4.

    Karras et al. 2022, table 1 (c_noise of their own).
    """
    told: np.float32 = np.log(np.float32(sigma)) * np.float32(0.25)
    return told


def denoised_from_epsilon(output: Array, latents: Array, sigma: PerRow) -> Array:
    """Estimate x0 when the network predicts the noise: x - sigma * output (Ho et al. 2020, equation 15)."""
    return latents - per_row("sigma", sigma, latents) * output


def denoised_from_v(output: Array, latents: Array, sigma: PerRow) -> Array:
    """Estimate x0 when the network predicts v = alpha * noise - sigma_vp * x0 (Salimans and Ho 2022, appendix D).

    x / (sigma^2 + 1) - output * sigma / sqrt(sigma^2 + 1) in the coordinate of x = x0 + sigma * noise.
    """
    sigmas = per_row("sigma", sigma, latents)
    variance = sigmas**2 + np.float32(1)
    denoised: Array = output * (-sigmas / np.sqrt(variance)) + latents / variance
    return denoised


def denoised_from_sample(output: Array, latents: Array, sigma: PerRow) -> Array:
    """Take the output, which is the estimate of x0 itself."""
    per_row("sigma", sigma, latents)
    return output


def flow_input(latents: Array, sigma: PerRow) -> Array:
    """Take the latents, which a flow network sees as they are."""
    per_row("sigma", sigma, latents)
    return latents


def denoised_from_flow(output: Array, latents: Array, sigma: PerRow) -> Array:
    """Estimate x0 when the network predicts noise - x0 on x = (1 - sigma) * x0 + sigma * noise: x - sigma * output.

    Here sigma is the share of noise, 0..1 (Lipman et al. 2023; Esser et al. 2024): in the other coordinate a flow would
    start at infinity. The derivative (x - x0) / sigma is the same in both, so the samplers are too.
    """
    return latents - per_row("sigma", sigma, latents) * output


PREDICTIONS: Mapping[str, Prediction] = MappingProxyType(
    {
        row.name: row
        for row in (
            Prediction("epsilon", scale_input, denoised_from_epsilon, bears_zero_snr=False),
            Prediction("v_prediction", scale_input, denoised_from_v),
            Prediction("sample", scale_input, denoised_from_sample),
            Prediction("flow", flow_input, denoised_from_flow),
        )
    }
)


def find_prediction(name: str) -> Prediction:
    """Look a prediction type up by its diffusers name; raises UnknownNameError listing the choices."""
    if name not in PREDICTIONS:
        raise unknown_name("prediction_type", name, PREDICTIONS)
    return PREDICTIONS[name]
