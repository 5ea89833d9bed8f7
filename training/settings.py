"""Every setting of the training of the bundled model, in one typed place."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


def workspace() -> Path:
    """The folder for everything that training makes and needs again: `LATENTWORKS_TRAINING`, or `.training` here."""
    return Path(os.environ.get("LATENTWORKS_TRAINING", ".training"))


class Settings(BaseModel):
    """Frozen, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LoopSettings(Settings):
    """How one network is optimised.

    The learning rate rises linearly over `warmup` steps, stays, and falls linearly to `final_fraction` of itself over
    the last `cooldown` steps, so that a run can be prolonged by raising `steps`.
    """

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup: int = Field(200, ge=0)
    cooldown: int = Field(0, ge=0)
    final_fraction: float = Field(0.02, ge=0, le=1)
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    gradient_clip: float = Field(1.0, gt=0)
    ema: float = Field(0.999, ge=0, lt=1)
    seed: int = 0
    compile: bool = Field(True, description="torch.compile the blocks: over twice as fast, needs a C++ compiler")
    log_every: int = Field(50, ge=1)
    save_every: int = Field(500, ge=1)
    sample_every: int = Field(2000, ge=1)


class VaeSettings(Settings):
    """The VAE, that of `emoji` if nothing else is said: factor 8 (four levels), four latent channels; random crops."""

    channels: tuple[int, ...] = (24, 48, 96, 96)
    latent_channels: int = 4
    norm_groups: int = 8
    crop: int = 64
    squared_weight: float = Field(3.0, description="weight of the mean squared error beside the mean absolute one")
    gradient_weight: float = Field(0.5, description="weight of the L1 difference of neighbouring pixels' differences")
    kl_weight: float = Field(3e-4, description="weight of the KL divergence, per latent value")
    scaling_factor: float | None = Field(
        None, gt=0, description="what makes the variance of latents one; measured where none is given"
    )
    loop: LoopSettings = LoopSettings(steps=13_000, batch=8, learning_rate=1e-3, cooldown=6_500, final_fraction=0.03)


UPSCALER_VAE = VaeSettings(
    channels=(32, 64, 64),
    scaling_factor=0.08333,
    loop=LoopSettings(steps=9_000, batch=4, learning_rate=1e-3, cooldown=5_000, compile=False),
)
"""The VAE of `emoji-x4`: factor 4, so that 128 pixels are latents of 32x32.

Its scaling factor is that of the first model of its kind: StableDiffusionUpscalePipeline computes with no other.
"""


class TextEncoderSettings(Settings):
    """The text encoder: CLIP's text architecture.

    `loop` is that of its pretraining, in which it alone learns to foretell a picture's latents from the caption.
    """

    vocabulary: int = 4000
    width: int = 256
    layers: int = 3
    heads: int = 4
    loop: LoopSettings = LoopSettings(
        steps=1500, batch=64, learning_rate=1e-3, warmup=100, cooldown=1000, ema=0.99, compile=False
    )


class UNetSettings(Settings):
    """The conditional U-Net; a level named in `attended` has self- and cross-attention.

    Beside the cross-attention, a summary of the conditioning joins the time embedding, which scales and shifts the
    features of every residual block: a small U-Net learns much sooner what is asked for.
    """

    channels: tuple[int, ...] = (64, 128, 192)
    attended: tuple[bool, ...] = (False, True, True)
    layers: int = 1
    head_width: int = 32
    norm_groups: int = 32
    summary_heads: int = Field(8, description="heads of the attention that sums up the conditioning")


class NoiseSettings(Settings):
    """The noise that the denoiser learns to remove, in the names of diffusers' scheduler configuration."""

    num_train_timesteps: int = 1000
    beta_schedule: str = "squaredcos_cap_v2"
    prediction_type: str = "v_prediction"


class DenoiserSettings(Settings):
    """Text encoder and denoiser, trained together on cached latents."""

    text_encoder: TextEncoderSettings = TextEncoderSettings()
    unet: UNetSettings = UNetSettings()
    noise: NoiseSettings = NoiseSettings()
    styles: tuple[str, ...] = ("3d", "flat")
    most_pictures: int | None = Field(None, description="learn only so many pictures: the memorisation trial")
    tag_chance: float = Field(0.2, ge=0, le=1, description="how often a caption names tags beside the label")
    empty_chance: float = Field(0.1, ge=0, le=1, description="how often the caption is empty, for guidance")
    timestep_power: float = Field(
        0.7, gt=0, description="timesteps are u^power of the way, u uniform: below 1, more of them are noisy"
    )
    loop: LoopSettings = LoopSettings(
        steps=6_000, batch=32, learning_rate=8e-4, cooldown=3_000, compile=False, save_every=100, sample_every=500
    )


class DecoderTargetsSettings(Settings):
    """What small decoders learn beside the pictures: latents that the denoiser makes, as the VAE decodes them."""

    walks: int = Field(512, ge=0, description="whole walks from noise to latents, each of another caption")
    steps: int = Field(15, ge=1, description="steps of a walk")
    guidance: float = Field(2.0, ge=0, description="guidance of a walk")
    foretold: int = Field(
        2048, ge=0, description="latents foretold in one step from some noise, as previews in mid-walk show them"
    )
    seed: int = 0


class DecoderSettings(Settings):
    """A decoder smaller than the VAE's, in the same latent space: the decoder of diffusers' AutoencoderTiny.

    `blocks` are the residual blocks of `width` channels at each level, from the latents' size to the pictures'.
    """

    width: int = Field(ge=1)
    blocks: tuple[int, ...]
    squared_weight: float = Field(3.0, description="weight of the mean squared error beside the mean absolute one")
    gradient_weight: float = Field(0.5, description="weight of the L1 difference of neighbouring pixels' differences")
    taught_weight: float = Field(0.5, ge=0, description="weight of the loss to the VAE's picture beside the true one")
    targets: DecoderTargetsSettings = DecoderTargetsSettings()
    loop: LoopSettings


SMALL_DECODER = DecoderSettings(
    width=32,
    blocks=(4, 4, 2, 0),
    loop=LoopSettings(steps=11_000, batch=4, learning_rate=1.5e-3, cooldown=4_000, compile=False),
)
PREVIEW_DECODER = DecoderSettings(
    width=16,
    blocks=(2, 1, 1, 0),
    loop=LoopSettings(steps=10_000, batch=8, learning_rate=2e-3, cooldown=5_000, compile=False),
)


class InpaintingSettings(Settings):
    """The mask-conditioned denoiser: the bundled one also given mask and masked picture."""

    moved: int = Field(3, ge=0, description="how often each picture is also turned, resized, moved and mirrored")
    masks: int = Field(1, ge=1, description="random masks of each of these, encoded once")
    empty_chance: float = Field(
        0.3, ge=0, le=1, description="how often the caption is empty: then what is kept says all"
    )
    timestep_power: float = Field(0.8, gt=0, description="as for the denoiser")
    loop: LoopSettings = LoopSettings(
        steps=2_000,
        batch=32,
        learning_rate=3e-4,
        warmup=100,
        cooldown=1_000,
        compile=False,
        save_every=50,
        sample_every=500,
    )


class UpscalerSettings(Settings):
    """The denoiser of `emoji-x4`, on latents of 32x32 concatenated with the small picture; attention at 8x8 only."""

    unet: UNetSettings = UNetSettings(channels=(64, 96, 128), attended=(False, False, True))
    most_noise: int = Field(100, ge=0, description="the highest noise level of the small picture, of 1,000")
    empty_chance: float = Field(0.1, ge=0, le=1, description="how often the caption is empty, for guidance")
    timestep_power: float = Field(1.0, gt=0, description="as for the denoiser")
    loop: LoopSettings = LoopSettings(
        steps=6_000, batch=8, learning_rate=6e-4, cooldown=4_000, compile=False, save_every=100, sample_every=1000
    )


class AdapterSettings(Settings):
    """The edge adapter of the bundled denoiser."""

    blocks: int = Field(2, ge=1, description="residual blocks at each level")
    moved: int = Field(3, ge=0, description="how often each picture is also turned, resized, moved and mirrored")
    empty_chance: float = Field(0.3, ge=0, le=1, description="how often the caption is empty: then edges say it all")
    timestep_power: float = Field(0.7, gt=0, description="as for the denoiser")
    loop: LoopSettings = LoopSettings(
        steps=2_000,
        batch=32,
        learning_rate=1e-3,
        warmup=100,
        cooldown=1_000,
        compile=False,
        save_every=50,
        sample_every=500,
    )
