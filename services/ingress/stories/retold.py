"""What a picture's file says it takes to make it again, checked as far as no version has a say in it."""

from dataclasses import dataclass, fields, replace
from typing import Any

from PIL import Image
from pydantic import ValidationError

from components.contract import PARTS, Kind
from components.messages import ImageRequest, Pixels
from pipeline.errors import RequestError
from pipeline.hires import enlarges_latents
from pipeline.request import RequestRules
from pipeline.source_pictures import image_pixels, open_picture, turned_size
from pipeline.story.reading import read_story
from pipeline.story.record import DEFAULTS, SETTINGS, Story
from pipeline.story.request import request_of
from pipeline.upscalers import UPSCALERS
from services.ingress.orders.sources import IMAGE, Editing
from services.messages import OVERRIDABLE, Encoding, Pins

_OF_EDITS = tuple(field.name for field in fields(Editing))
# texts of the caller's own are not repeated
_SECRET = ("prompt", "negative_prompt", "boxes")


@dataclass(frozen=True, slots=True, eq=False)
class Retold:
    """A picture's own word on how it was made.

    `pins` are the versions that took part, `encoding` is how its file was written, and `pixels` [height, width, 3] are
    what is in it, None where it has another size than the story tells of.
    """

    story: Story
    request: ImageRequest
    pins: Pins
    encoding: Encoding
    pixels: Pixels | None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a generation that asks for it; what it starts from, and how far from it, are not among them."""
        asked = request_of(self.story)
        fields = {name: value for name, value in asked.items() if name not in ("components", *_OF_EDITS)}
        # the pictures come beside it
        controls = [{**control, "image": ""} for control in fields.get("controls", ())]
        prompts = [""] * len(self.story.origin.image_prompts)
        return {
            **fields,
            **({"controls": controls} if controls else {}),
            **({"image_prompts": prompts} if prompts else {}),
        }

    @property
    def editing(self) -> Editing:
        """What an edit that asks for it says of the pictures that it brings."""
        return Editing(**{name: getattr(self.request, name) for name in _OF_EDITS})

    def rules(self, rules: RequestRules) -> RequestRules:
        """The server's rules with the settings that no field of a request can choose.

        Raises:
            RequestError: one is more than the server allows.
        """
        chunks, most = self.request.prompt_chunks, rules.max_prompt_chunks
        if not 1 <= chunks <= most:
            raise _refuse(f"prompt_chunks={chunks}: must be between 1 and {most}, the rules.max_prompt_chunks here")
        return rules.model_copy(update={"max_prompt_chunks": chunks, **self._tiles(rules)})

    def _tiles(self, rules: RequestRules) -> dict[str, Any]:
        """The settings that tile as the picture was tiled; a whole one stays within this server's."""
        tiling = self.request.tiling
        if tiling is None:
            return {}
        most = rules.max_whole_pixels
        if tiling.side**2 > most:
            raise _refuse(
                f"tiling.side={tiling.side}: must have at most {most} pixels, the rules.max_whole_pixels here"
            )
        # where both of two passes are tiled the first is the smaller
        hires = self.request.hires
        sized = self.request if hires is None or hires.tiling is None else self.request.passes[0]
        pixels = sized.width * sized.height
        return {"max_whole_pixels": pixels - 1, "tile_side": tiling.side, "tile_overlap": tiling.overlap}

    def require_same(self, request: ImageRequest) -> None:
        """Refuse a request that is not the one that made the picture, as of a version that cannot be asked so.

        Raises:
            RequestError: it is another.
        """
        for field in fields(request):
            told, asked = getattr(self.request, field.name), getattr(request, field.name)
            if told != asked:
                said = "" if field.name in _SECRET else f"={told!r}: would be {asked!r} here"
                raise _refuse(f"{field.name}{said}")


def retold(data: bytes, most_pixels: int) -> Retold:
    """What the file of a picture of at most so many pixels says.

    Raises:
        RequestError: it tells no story of ours or not all of it, or not how it was compressed, or cannot be decoded.
    """
    reading = read_story(data)
    story = reading.story
    if story is None or reading.source != "latentworks":
        raise RequestError(IMAGE, f"{IMAGE}: holds no story of ours, which alone tells the exact versions that made it")
    if reading.unknown:
        raise RequestError(IMAGE, f"{IMAGE}: its story has parts that are not understood here: {reading.unknown[0]}")
    request = _request(story)
    picture = open_picture(IMAGE, data, most_pixels)
    encoding = _encoding(story, picture)
    size = turned_size(picture)
    whole = story.origin.laid_into
    told = (request.width, request.height) if whole is None else (whole.width, whole.height)
    pixels = image_pixels(picture, *size, most_pixels)[0] if size == told else None
    # whose every setting is told, so that nothing is left to this server's own defaults
    complete = replace(story, settings={name: getattr(request, name) for name in SETTINGS})
    return Retold(complete, request, _pins(story, request), encoding, pixels)


def _refuse(said: str) -> RequestError:
    return RequestError(IMAGE, f"{IMAGE}: its story's {said}")


def _request(story: Story) -> ImageRequest:
    # a setting that a story is too old to tell of was at its default
    told: dict[str, Any] = {
        name: DEFAULTS.get(name) if value is None else value for name, value in story.settings.items()
    }
    for name, value in told.items():
        if value is None and not _may_be_none(name):
            raise RequestError(IMAGE, f"{IMAGE}: its story does not tell the {name}, without which it cannot be drawn")
    origin = story.origin
    begun = (origin.mask, origin.depth, origin.laid_into)
    if origin.source is None and (any(begun) or told["strength"] != DEFAULTS["strength"]):
        raise RequestError(IMAGE, f"{IMAGE}: was made from another picture, and its story does not tell which")
    if len(told["controls"]) != len(origin.controls):
        raise RequestError(IMAGE, f"{IMAGE}: was held by other pictures, and its story does not tell which")
    if (told["image_prompt_scale"] is None) == bool(origin.image_prompts):
        raise RequestError(IMAGE, f"{IMAGE}: was to be like other pictures, and its story does not tell which")
    versions = {str(pin) for pin in story.beside}
    for named in (*told["controls"], *told["loras"]):
        if named.model not in versions:
            raise RequestError(IMAGE, f"{IMAGE}: its story does not tell which version of {named.model} made it"[:200])
    if told["hires"] is not None and told["hires"].upscaler not in UPSCALERS:
        raise _refuse(f"hires.upscaler: must be one of {', '.join(UPSCALERS)}")
    return ImageRequest(**told, n=1)


def _may_be_none(name: str) -> bool:
    try:
        SETTINGS[name].validate_python(None)
    except ValidationError:
        return False
    return True


def _pins(story: Story, request: ImageRequest) -> Pins:
    between = request.hires is not None and not enlarges_latents(request.hires.upscaler)
    taking_part = (*OVERRIDABLE, Kind.VAE_ENCODER) if between or story.origin.source is not None else OVERRIDABLE
    kinds = [kind for kind in taking_part if kind in PARTS or kind in story.components]
    if story.origin.image_prompts:
        kinds.append(Kind.IMAGE_ENCODER)
    for kind in kinds:
        if kind not in story.components:
            raise RequestError(IMAGE, f"{IMAGE}: its story does not tell which {kind} made it")
    return {kind: story.components[kind] for kind in kinds}


def _encoding(story: Story, picture: Image.Image) -> Encoding:
    form, found = story.file, str(picture.format).lower()
    if form is None and found == "png":
        return Encoding()
    if form is None:
        raise RequestError(
            IMAGE,
            f"{IMAGE}: is a {found} file, and its story does not tell how it was compressed: whether the pixels are "
            "equal can be told of a png file alone",
        )
    if found not in ("png", form.output_format):
        raise RequestError(
            IMAGE,
            f"{IMAGE}: is a {found} file, and was written as {form.output_format}: how it was compressed since cannot "
            "be told, and so not whether the pixels are equal",
        )
    return Encoding(form.output_format, form.output_compression)
