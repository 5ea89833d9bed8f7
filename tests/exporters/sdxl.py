"""Tiny pipelines of random weights in the shape of SDXL's base and refiner."""

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests.exporters.tokenizers import TOKENS, tiny_tokenizer

_WIDTH, _SECOND_WIDTH, _PROJECTION, _TIME = 16, 24, 8, 8


def tiny_base(levels: int = 2) -> StableDiffusionXLPipeline:
    """Of a U-Net of two levels, or of the three that the published ones have, as adapters want them."""
    torch.manual_seed(0)
    first, second = tiny_tokenizer(), tiny_tokenizer(pad="!")
    return StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(text_config(first, _WIDTH, 3, "quick_gelu")),
        text_encoder_2=CLIPTextModelWithProjection(text_config(second, _SECOND_WIDTH, 3, "gelu")),
        tokenizer=first,
        tokenizer_2=second,
        unet=_unet(_WIDTH + _SECOND_WIDTH, 6, levels),
        scheduler=_scheduler(),
        add_watermarker=False,
    )


def tiny_refiner() -> StableDiffusionXLImg2ImgPipeline:
    torch.manual_seed(1)
    tokenizer = tiny_tokenizer(pad="!")
    encoder = CLIPTextModelWithProjection(text_config(tokenizer, _SECOND_WIDTH, 3, "gelu"))
    torch.manual_seed(0)
    return StableDiffusionXLImg2ImgPipeline(
        # base and refiner have one latent space
        vae=_vae(),
        text_encoder=None,
        text_encoder_2=encoder,
        tokenizer=None,
        tokenizer_2=tokenizer,
        unet=_unet(_SECOND_WIDTH, 5, 2),
        scheduler=_scheduler(),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=0.13025,
    )


def text_config(
    tokenizer: CLIPTokenizer, width: int, layers: int, activation: str, projection: int = _PROJECTION
) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        projection_dim=projection,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_act=activation,
    )


def _unet(width: int, numbers: int, levels: int) -> UNet2DConditionModel:
    more = levels - 1
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * more),
        up_block_types=(*("CrossAttnUpBlock2D",) * more, "UpBlock2D"),
        block_out_channels=(16, *(32,) * more),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=width,
        attention_head_dim=(2, *(4,) * more),
        transformer_layers_per_block=(*(1,) * more, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=_TIME,
        projection_class_embeddings_input_dim=numbers * _TIME + _PROJECTION,
    )


def _scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
