"""A tiny CLIP image encoder of random weights."""

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection


def tiny_vision(side: int, width: int) -> CLIPVisionModelWithProjection:
    """A CLIP image encoder of pictures of `side` x `side` pixels, of random weights; it projects to `width`."""
    torch.manual_seed(6)
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=side,
            patch_size=4,
        )
    )
