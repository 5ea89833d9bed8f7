"""What conditions each row of a picture: every array that the network takes beside latents and timestep."""

import numpy as np

from components.contract import Contract
from components.messages import Arrays, EncodedText, ImageRequest
from diffusion.guidance import Row
from pipeline.track import guidance_of


def conditioned_rows(request: ImageRequest, encoded: EncodedText, contract: Contract) -> dict[str, Arrays]:
    """The arrays [1, ...] of every row that a picture's guidance weighs, by the inputs of the denoiser's contract.

    `encoded` holds `request.texts` in their order; a row without the prompt has the negative one.
    """
    beside = _beside_texts(request, contract)
    return {
        row: {**encoded.row(0 if row == Row.POSITIVE else 1), **beside}
        for row in guidance_of(request, contract).weighed
    }


def _beside_texts(request: ImageRequest, contract: Contract) -> Arrays:
    return {"guidance": np.array([request.guidance], np.float32)} if contract.embeds_guidance else {}
