"""What conditions each row of a picture: every array that the network takes beside latents and timestep."""

import numpy as np

from components.contract import Contract
from components.messages import Arrays, EncodedText, FloatArray, ImageRequest
from diffusion.guidance import Row
from pipeline.framing import framing
from pipeline.track import guidance_of


def conditioned_rows(request: ImageRequest, encoded: EncodedText, contract: Contract) -> dict[str, Arrays]:
    """The arrays [1, ...] of every row that a picture's guidance weighs, by the inputs of the denoiser's contract.

    `encoded` holds `request.texts` in their order; a row without the prompt has the negative one, or zeros where there
    is none and the contract says so.
    """
    return {
        row: {**_texts(row, request, encoded, contract), **_beside_texts(row, request, contract)}
        for row in guidance_of(request, contract).weighed
    }


def _texts(row: Row, request: ImageRequest, encoded: EncodedText, contract: Contract) -> Arrays:
    if row == Row.POSITIVE:
        return encoded.row(0)
    negative = encoded.row(1)
    if contract.zeros_for_empty_negative and not request.negative_prompt:
        return {name: np.zeros_like(array) for name, array in negative.items()}
    return negative


def _beside_texts(row: Row, request: ImageRequest, contract: Contract) -> Arrays:
    beside: dict[str, FloatArray] = {}
    if contract.time_ids:
        told = framing(request, positive=row == Row.POSITIVE)
        beside["time_ids"] = np.array([[told[name] for name in contract.time_ids]], np.float32)
    if contract.embeds_guidance:
        beside["guidance"] = np.array([request.guidance], np.float32)
    return beside
