"""What U-Nets, and ControlNets in their shape, make of the conditioning: hidden states, and SDXL's embeddings."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from components.contract import Conditioning, TimeId
from exporters.errors import ExportError
from exporters.text_encoder import HIDDEN_STATES, TEXT_EMBEDS

TIME_IDS = "time_ids"
_SIZE_AND_CROP: tuple[TimeId, ...] = ("original_height", "original_width", "crop_top", "crop_left")
_TIME_IDS: Mapping[int, tuple[TimeId, ...]] = {
    6: (*_SIZE_AND_CROP, "target_height", "target_width"),
    5: (*_SIZE_AND_CROP, "aesthetic_score"),
}


def side_by_side(hidden_states: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """The hidden states of both text encoders [batch, tokens, width], or of the one that there is."""
    second = given.get(HIDDEN_STATES[1])
    return hidden_states if second is None else torch.cat([hidden_states, second], dim=-1)


def added_conditions(given: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """What diffusers takes as `added_cond_kwargs`: a vector of the whole text, numbers of the picture; or nothing."""
    if TIME_IDS not in given:
        return None
    return {"text_embeds": given[TEXT_EMBEDS[0]], "time_ids": given[TIME_IDS]}


def time_ids(config: Any, conditioning: Sequence[Conditioning], name: str) -> tuple[TimeId, ...]:
    """What a network of that configuration is told of the picture: how many numbers tells SDXL's base from its refiner.

    Raises:
        ExportError: the numbers are neither's; `name` says whose.
    """
    if config.addition_embed_type != "text_time":
        return ()
    whole = next((array.width for array in conditioning if array.tokens is None), 0)
    count, rest = divmod(config.projection_class_embeddings_input_dim - whole, config.addition_time_embed_dim)
    if rest or count not in _TIME_IDS:
        raise ExportError(
            f"{name}: projection_class_embeddings_input_dim={config.projection_class_embeddings_input_dim}: must be "
            f"{whole}, the width of text_embeds, and {' or '.join(map(str, _TIME_IDS))} times addition_time_embed_dim="
            f"{config.addition_time_embed_dim}"
        )
    return _TIME_IDS[count]


def hidden_width(conditioning: Sequence[Conditioning]) -> int:
    """How wide the hidden states of all text encoders are side by side."""
    return sum(array.width for array in conditioning if array.tokens is not None)
