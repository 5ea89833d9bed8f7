"""What conditions each row of a picture: every array that the network takes beside latents and timestep."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from components.contract import Contract
from components.messages import Arrays, EncodedText, FloatArray, ImageRequest
from diffusion.guidance import WITH_PROMPT, Row
from pipeline.boxes import box_rows
from pipeline.framing import framing
from pipeline.skipping import skipped
from pipeline.track import guidance_of


def conditioned_rows(
    request: ImageRequest,
    encoded: EncodedText,
    contract: Contract,
    image_channels: FloatArray | None = None,
    adapted: Mapping[str, Arrays] | None = None,
) -> dict[str, Arrays]:
    """The arrays [1, ...] of every row that a picture's guidance weighs, by the inputs of the denoiser's contract.

    `encoded` holds `request.texts` and `request.phrases` in their order; a row without the prompt has the negative one,
    or zeros where there is none and the contract says so. `image_channels` [1, channels, height, width] are what all
    rows look at, but that where guidance weighs a row with the picture alone, the negative one has zeros. `adapted`
    holds, by row, what comes of the request beside its texts and may be left out.
    """
    weighed = guidance_of(request, contract).weighed
    extra = {} if adapted is None else adapted
    boxes = {} if encoded.phrases is None else box_rows(request.boxes, encoded.phrases, contract)
    return {
        row: {
            **_texts(row, request, encoded, contract),
            **_beside_texts(row, request, contract),
            **skipped(row, request, contract),
            **_seen(row, image_channels, blind=Row.IMAGE in weighed),
            **boxes.get(row, {}),
            **extra.get(Row.POSITIVE if row == Row.SKIPPING else row, {}),
        }
        for row in weighed
    }


def adapted_rows(loras: Arrays, image_prompts: Mapping[str, Arrays] | None) -> dict[str, Arrays]:
    """What `conditioned_rows` takes of a request's LoRAs, `lora_arrays`, and of its `image_prompt_rows` if it has any.

    Every row draws with the LoRAs.
    """
    return {row: {**loras, **({} if image_prompts is None else image_prompts.get(row, {}))} for row in Row}


def _seen(row: Row, image_channels: FloatArray | None, *, blind: bool) -> Arrays:
    if image_channels is None:
        return {}
    return {"image_channels": np.zeros_like(image_channels) if blind and row == Row.NEGATIVE else image_channels}


def _texts(row: Row, request: ImageRequest, encoded: EncodedText, contract: Contract) -> Arrays:
    if row in WITH_PROMPT:
        return encoded.row(0)
    negative = encoded.row(1)
    if contract.zeros_for_empty_negative and not request.negative_prompt:
        return {name: np.zeros_like(array) for name, array in negative.items()}
    return negative


def _beside_texts(row: Row, request: ImageRequest, contract: Contract) -> Arrays:
    beside: dict[str, npt.NDArray[Any]] = {}
    if contract.time_ids:
        told = framing(request, positive=row in WITH_PROMPT)
        beside["time_ids"] = np.array([[told[name] for name in contract.time_ids]], np.float32)
    if contract.embeds_guidance:
        beside["guidance"] = np.array([request.guidance], np.float32)
    if contract.noise_levels is not None:
        beside["noise_level"] = np.array([request.noise_level], np.int64)
    return beside
