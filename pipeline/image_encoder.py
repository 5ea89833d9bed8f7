"""The image encoder's stage: pictures to tokens that a denoiser looks at beside the text."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from components.contract import IMAGE_PROMPT, Kind, Preprocessing
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.messages import Arrays, FloatArray
from diffusion.guidance import Row
from pipeline.source_pictures import image_pixels, turned_size
from pipeline.stage import Interface, open_session
from runtime.settings import SessionSettings

_INTERFACE = Interface(Kind.IMAGE_ENCODER, frozenset({"pixels"}), frozenset({IMAGE_PROMPT, "no_image_prompt"}))
_WHITE = 255


class ImageEncoder:
    """Runs the image encoder on pictures; usable from any number of threads at once."""

    def __init__(self, folder: ComponentFolder, settings: SessionSettings) -> None:
        """Open the component.

        Raises:
            ComponentError: it is no image encoder.
            RuntimeFault: as `Session.open`.
        """
        self._session = open_session(folder, settings, _INTERFACE)
        self.contract = self._session.contract
        if self.contract.preprocessing is None:
            raise ComponentError(f"{folder.path.name}: its contract has no preprocessing")
        self._preprocessing = self.contract.preprocessing

    def rows(self, pictures: Sequence[Image.Image], scale: float | None, most_pixels: int) -> Mapping[str, Arrays]:
        """What each row of a request with these pictures takes: a row without the prompt has no pictures, as many.

        A `scale` of None is for a denoiser that takes none.

        Raises:
            RequestError: a picture has more than `most_pixels` or cannot be read.
            RuntimeFault: the session could not run.
        """
        # each on its own: its bytes hang on no other
        found = [self._session.run({"pixels": self._pixels(picture, most_pixels)}) for picture in pictures]

        def row(output: str) -> Arrays:
            tokens = np.concatenate([arrays[output] for arrays in found], axis=1)
            scaled = {} if scale is None else {"image_prompt_scale": np.array([scale], np.float32)}
            return {IMAGE_PROMPT: tokens, **scaled}

        without = row("no_image_prompt")
        return {Row.NEGATIVE: without, Row.IMAGE: without, Row.POSITIVE: row(IMAGE_PROMPT)}

    def _pixels(self, picture: Image.Image, most: int) -> FloatArray:
        field = "image_prompts"
        width, height = turned_size(picture, field)
        shown = image_pixels(picture, width, height, most, field)[0]
        return preprocessed(Image.fromarray(shown), self._preprocessing)


def preprocessed(picture: Image.Image, how: Preprocessing) -> FloatArray:
    """The input [1, 3, side, side] of an RGB picture; sides are rounded down, as CLIP's processor in transformers."""
    width, height = picture.size
    short = min(width, height)
    size = (int(how.side * width / short), int(how.side * height / short))
    resized = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - how.side) // 2, (size[1] - how.side) // 2
    square = np.asarray(resized.crop((left, top, left + how.side, top + how.side)), np.float32) / np.float32(_WHITE)
    normal = (square - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
    turned: FloatArray = np.ascontiguousarray(normal.transpose(2, 0, 1)[np.newaxis], np.float32)
    return turned
