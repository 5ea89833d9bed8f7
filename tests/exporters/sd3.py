"""A tiny pipeline of random weights in the shape of SD 3.5 Medium."""

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5Tokenizer

from tests.exporters.sdxl import text_config
from tests.exporters.tokenizers import tiny_tokenizer


def tiny_sd3() -> StableDiffusion3Pipeline:
    torch.manual_seed(0)
    first, second = tiny_tokenizer(), tiny_tokenizer(pad="!")
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=16,
            in_channels=16,
            out_channels=16,
            num_layers=3,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=48,
            caption_projection_dim=16,
            pooled_projection_dim=24,
            pos_embed_max_size=24,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16),
            latent_channels=16,
            norm_num_groups=4,
            sample_size=32,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        # single files have no projection of this encoder, and diffusers takes a square of ones
        text_encoder=CLIPTextModelWithProjection(text_config(first, 16, 3, "quick_gelu", 16)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(second, 24, 3, "gelu")),
        text_encoder_3=T5EncoderModel(t5_config()),
        tokenizer=first,
        tokenizer_2=second,
        tokenizer_3=tiny_t5_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def t5_config() -> T5Config:
    return T5Config(
        vocab_size=len(tiny_t5_tokenizer()),
        d_model=48,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
        tie_word_embeddings=False,
    )


def tiny_t5_tokenizer() -> T5Tokenizer:
    """Letters, and two words of them that are likelier as one."""
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("<extra_id_0>", 0.0)]
    letters = [(letter, -5.0) for letter in "\u2581abcdefghijklmnopqrstuvwxyz!,"]
    words = [("\u2581red", -2.0), ("\u2581a", -3.0)]
    return T5Tokenizer(vocab=[*marks, *letters, *words], extra_ids=1, model_max_length=512)
