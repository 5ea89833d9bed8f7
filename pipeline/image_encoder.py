"""The image encoder's stage: pictures to tokens that a denoiser looks at beside the text."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from components.contract import IMAGE_PROMPT, Kind, Preprocessing
from components.errors import ComponentError
from components.folder import ComponentFolder
from components.messages import Arrays, FloatArray, Pixels
from diffusion.guidance import Row
from pipeline.errors import refuse
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
        self.side = self._preprocessing.side
        self.provider = self._session.provider

    def rows(self, pictures: Sequence[Image.Image], scale: float | None, most_pixels: int) -> Mapping[str, Arrays]:
        """What each row of a request with these pictures takes: a row without the prompt has no pictures, as many.

        A `scale` of None is for a denoiser that takes none.

        Raises:
            RequestError: a picture has more than `most_pixels` or cannot be read.
            RuntimeFault: the session could not run.
        """
        squares = [square(picture, self._preprocessing, most_pixels, "image_prompts") for picture in pictures]
        return image_prompt_rows(self.tokens(squares), scale)

    def tokens(self, squares: Sequence[Pixels]) -> Arrays:
        """What `image_prompt_rows` takes, of squares [1, side, side, 3], 0..255, of the contract's preprocessing.

        Raises:
            RequestError: one is of another size.
            RuntimeFault: the session could not run.
        """
        side = self.side
        for pixels in squares:
            if pixels.shape != (1, side, side, 3) or pixels.dtype != np.uint8:
                found = f"{pixels.dtype} {list(pixels.shape)}"
                raise refuse("image_prompts", found, f"uint8 {[1, side, side, 3]}")
        # each on its own: its bytes hang on no other
        made = [self._session.run({"pixels": normalised(pixels, self._preprocessing)}) for pixels in squares]
        return {name: np.concatenate([arrays[name] for arrays in made], axis=1) for name in _INTERFACE.outputs}


def image_prompt_rows(tokens: Arrays, scale: float | None) -> dict[str, Arrays]:
    """What each row takes of `ImageEncoder.tokens`: a row without the prompt has no pictures, as many.

    A `scale` of None is for a denoiser that takes none.
    """

    def row(output: str) -> Arrays:
        scaled = {} if scale is None else {"image_prompt_scale": np.array([scale], np.float32)}
        return {IMAGE_PROMPT: tokens[output], **scaled}

    without = row("no_image_prompt")
    return {Row.NEGATIVE: without, Row.IMAGE: without, Row.POSITIVE: row(IMAGE_PROMPT)}


def square(picture: Image.Image, how: Preprocessing, most: int, field: str) -> Pixels:
    """The middle [1, side, side, 3], 0..255, of a request's `field`, a picture of any mode but "F".

    Raises:
        RequestError: the picture has more than `most` pixels, or cannot be read.
    """
    shown = image_pixels(picture, *turned_size(picture, field), most, field)[0]
    return np.asarray(_middle(Image.fromarray(shown), how))[np.newaxis]


def normalised(pixels: Pixels, how: Preprocessing) -> FloatArray:
    """The input [1, 3, side, side] of a square [1, side, side, 3], 0..255."""
    values = pixels[0].astype(np.float32) / np.float32(_WHITE)
    normal = (values - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
    turned: FloatArray = np.ascontiguousarray(normal.transpose(2, 0, 1)[np.newaxis], np.float32)
    return turned


def _middle(picture: Image.Image, how: Preprocessing) -> Image.Image:
    """Sides are rounded down, as by CLIP's processor in transformers."""
    width, height = picture.size
    short = min(width, height)
    size = (int(how.side * width / short), int(how.side * height / short))
    resized = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - how.side) // 2, (size[1] - how.side) // 2
    return resized.crop((left, top, left + how.side, top + how.side))
