"""What every denoiser here learns to predict: the velocity of noised latents (Salimans and Ho, 2022)."""

from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Noised:
    """[B, C, H, W] latents with noise, the velocity to predict for them, and their [B] timesteps of `total`."""

    noisy: Tensor
    velocity: Tensor
    timesteps: Tensor
    total: int


def noised(scheduler: DDIMScheduler, clean: Tensor, generator: torch.Generator, power: float) -> Noised:
    """Noise [B, C, H, W] latents, each at a timestep of its own: u^power of the way, u uniform."""
    noise = torch.randn(clean.shape, generator=generator)
    total = scheduler.config.num_train_timesteps
    timesteps = _spread(len(clean), generator, power, total)
    return Noised(
        scheduler.add_noise(clean, noise, timesteps), scheduler.get_velocity(clean, noise, timesteps), timesteps, total
    )


def velocity_losses(prediction: Tensor, true: Noised) -> dict[str, Tensor]:
    """Mean squared error of the prediction, whole and by quarters of the timesteps (q1: least noise)."""
    errors = functional.mse_loss(prediction, true.velocity, reduction="none").mean(dim=(1, 2, 3))
    quarter = true.timesteps * 4 // true.total
    return {"loss": errors.mean(), **{f"loss_q{q + 1}": errors[quarter == q].mean() for q in range(4)}}


def _spread(batch: int, generator: torch.Generator, power: float, total: int) -> Tensor:
    # Evenly spread over the batch, with one random shift: less noise in the gradient than independent draws.
    spread = (torch.arange(batch) + torch.rand(1, generator=generator)) / batch
    return (spread**power * total).long().clamp(max=total - 1)
