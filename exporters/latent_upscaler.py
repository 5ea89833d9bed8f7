"""A latent upscaler's U-Net as other U-Nets are: its preconditioning in the terms of a prediction, its noise level 0.

Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", table 1, with a deviation of
data of 1: the estimate is c_skip * x + c_out * F for the network's output F, with c_skip = 1 / (sigma^2 + 1) and
c_out = sigma / sqrt(sigma^2 + 1). So -F is the v that other networks predict.
"""

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from components.contract import Conditioning, FlowSchedule, NoiseSchedule
from exporters.errors import ExportError

# sines and cosines of how much noise is on the latents of the small picture
_NOISE_WIDTH = 128


def noise_and_text(text_embeds: Tensor) -> Tensor:
    """The condition [batch, 128 + width] beside the timestep: that there is no noise on the small picture, and texts.

    The cosines of 0 come first. diffusers puts no noise on it either.
    """
    ones = torch.ones_like(text_embeds[:, :1]).repeat(1, _NOISE_WIDTH // 2)
    return torch.cat([ones, torch.zeros_like(ones), text_embeds], dim=1)


def velocity(output: Tensor) -> Tensor:
    """The v that follows from the network's output, whose last channel is a variance that nothing uses."""
    return -output[:, :-1]


def preconditioned(schedule: NoiseSchedule | FlowSchedule) -> NoiseSchedule:
    """The schedule by which it is walked: told of sigma in place of the training timestep.

    Raises:
        ExportError: its scheduler is not made for what the pipeline hands to it, an estimate of the picture.
    """
    if not isinstance(schedule, NoiseSchedule) or schedule.prediction_type != "sample":
        raise ExportError(
            "scheduler: prediction_type must be 'sample', as the pipeline of a latent upscaler steps by it"
        )
    return schedule.model_copy(update={"prediction_type": "v_prediction", "timestep_type": "continuous"})


def require_condition(unet: UNet2DConditionModel, conditioning: tuple[Conditioning, ...]) -> None:
    """Refuse a U-Net that is not conditioned on a noise level and whole texts beside the timestep.

    Raises:
        ExportError: it is not.
    """
    whole = sum(array.width for array in conditioning if array.tokens is None)
    if unet.config.time_cond_proj_dim != _NOISE_WIDTH + whole:
        raise ExportError(
            f"unet: time_cond_proj_dim={unet.config.time_cond_proj_dim}: must be {_NOISE_WIDTH}, a noise level's, and "
            f"{whole}, the width of text_embeds"
        )
