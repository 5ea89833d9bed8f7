"""Captions of pictures as the frozen text encoder reads them, made once: what fine-tunings are conditioned on."""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from training.captions import caption, tokenise
from training.pictures import Picture

_BATCH = 64


class Prompts:
    """The hidden states of the captions of pictures, without tags, and of the empty caption: [N + 1, 32, W]."""

    @torch.no_grad()
    def __init__(self, pipe: StableDiffusionPipeline, pictures: Sequence[Picture]) -> None:
        captions = [*(caption(picture) for picture in pictures), ""]
        parts = np.array_split(np.arange(len(captions)), -(-len(captions) // _BATCH))
        tokens = (tokenise(pipe.tokenizer, [captions[i] for i in part]) for part in parts)
        self._states = torch.cat([pipe.text_encoder(ids).last_hidden_state for ids in tokens])

    def of(self, which: Tensor, generator: torch.Generator, empty_chance: float) -> Tensor:
        """The states [B, 32, W] of the pictures [B], those of the empty caption by chance."""
        empty = torch.rand(len(which), generator=generator) < empty_chance
        return self._states[torch.where(empty, len(self._states) - 1, which)]
