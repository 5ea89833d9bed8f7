"""The record of everything that made one picture, and its JSON."""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from math import isfinite
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, get_type_hints

from pydantic import TypeAdapter

from components.contract import Kind
from components.errors import ComponentError
from components.messages import ImageRequest
from components.record import Record
from components.reference import ComponentRef, kind_of
from pipeline.story.file_form import FileForm
from pipeline.story.origin import NOISE, Origin, PixelsDigest

# 1 had no number, no texts and no model
FORMAT = 2
TEXTS = ("prompt", "negative_prompt")
# nothing without their phrases
_PHRASED = ("boxes", "boxes_end")
# the pictures of an origin of which there is one at most
_DIGESTS = ("source", "mask", "depth", "laid_into")
_CHARACTERS = {name: f"{name}_characters" for name in TEXTS}

_HINTS = get_type_hints(ImageRequest)
# a story is that of one picture
SETTINGS: Mapping[str, TypeAdapter[Any]] = MappingProxyType(
    {field.name: TypeAdapter(_HINTS[field.name]) for field in fields(ImageRequest) if field.name != "n"}
)
DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {field.name: field.default for field in fields(ImageRequest) if field.default is not MISSING}
)
_LARGEST = 2**64
_LONGEST_QUOTE = 200
_MOST_NAMES = 256
# of one kind; no request has so many
_MOST_PARTS = 256

Value = TypeVar("Value")
Part = TypeVar("Part", bound=Record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything that made one picture.

    `settings` are the fields of `ImageRequest` but `n`, by name; one that is not told is None. `components` holds what
    made the picture, so the fallback's version where that made it, and then `fallback_for` is the version that gave
    none. `model` is the bundle, or what another program calls its checkpoint. `beside` are the versions of what the
    settings name by themselves. `origin` is what it was made from. `file` is how its file was written, None where that
    is not told. `format` numbers the form of the record.
    """

    settings: Mapping[str, Any]
    components: Mapping[Kind, ComponentRef] = field(default_factory=dict)
    model: str | None = None
    fallback_for: ComponentRef | None = None
    beside: tuple[ComponentRef, ...] = ()
    origin: Origin = NOISE
    file: FileForm | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Tell of every setting, and freeze what is told."""
        told = {name: self.settings.get(name) for name in SETTINGS}
        object.__setattr__(self, "settings", MappingProxyType(told))
        object.__setattr__(self, "components", MappingProxyType(dict(self.components)))

    @classmethod
    def of(
        cls,
        request: ImageRequest,
        components: Mapping[Kind, ComponentRef],
        fallback_for: ComponentRef | None = None,
        origin: Origin = NOISE,
        beside: tuple[ComponentRef, ...] = (),
    ) -> "Story":
        """The story of the one picture of a request."""
        denoiser = components.get(Kind.DENOISER)
        return cls(
            settings={name: getattr(request, name) for name in SETTINGS},
            components=components,
            model=None if denoiser is None else denoiser.name.split(".")[0],
            fallback_for=fallback_for,
            beside=beside,
            origin=origin,
        )

    def written_as(self, file: FileForm) -> "Story":
        """The same, and how its picture's file is written."""
        return replace(self, file=file)

    def without_texts(self) -> "Story":
        """The same, but for the prompt, the negative prompt and boxes with phrases, of which it does not tell."""
        written = (*TEXTS, *(_PHRASED if self.settings["boxes"] else ()))
        return replace(self, settings={**self.settings, **dict.fromkeys(written)})

    def to_json(self, texts: bool = True) -> str:
        """One line of JSON in ASCII.

        Without `texts` only their numbers of characters are told: `texts_in` finds them in the infotext by these.
        """
        settings = self.plain_settings()
        if not texts:
            settings |= {_CHARACTERS[name]: len(settings[name] or "") for name in TEXTS} | dict.fromkeys(TEXTS)
        return json.dumps(
            {
                "format": self.format,
                "model": self.model,
                **settings,
                "components": {kind.value: pin.model_dump() for kind, pin in self.components.items()},
                **{name: None if part is None else part.model_dump() for name, part in self._parts().items()},
                **{name: [part.model_dump() for part in parts] for name, parts in self._lists().items()},
            }
        )

    def plain_settings(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        return {name: SETTINGS[name].dump_python(value, mode="json") for name, value in self.settings.items()}

    def _parts(self) -> dict[str, Record | None]:
        digests = {name: getattr(self.origin, name) for name in _DIGESTS}
        return {"fallback_for": self.fallback_for, **digests, "file": self.file}

    def _lists(self) -> dict[str, tuple[Record, ...]]:
        """Parts of any number; what there is none of is not told."""
        found: dict[str, tuple[Record, ...]] = {
            "beside": self.beside,
            "control_pictures": self.origin.controls,
            "image_prompts": self.origin.image_prompts,
        }
        return {name: parts for name, parts in found.items() if parts}


class Told(NamedTuple):
    """A story as it was found somewhere, and what was not understood there, each item cut to 200 characters."""

    story: Story
    unknown: tuple[str, ...]


def quote(text: str) -> str:
    """A text cut to 200 characters, in valid Unicode."""
    cut = text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 3]}..."
    return valid(cut)


def valid(text: str) -> str:
    """A text with a question mark for each lone surrogate, which JSON can spell and no file holds."""
    return text.encode("utf-8", "replace").decode("utf-8")


def read_json(text: str, infotext: str | None = None) -> Told | None:
    """What our JSON says; None where it is none of ours. Texts that it leaves to the infotext come from there.

    What is absent reads as None, the weighting as "none"; what has another type or another name than any that is known
    is listed.
    """
    try:
        found = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("components"), dict):
        return None
    members = _Members(found)
    form = members.take("format", _read_format)
    model = members.take("model", _read_model)
    fallback_for = members.take("fallback_for", _pin_reader(Kind.VAE_DECODER))
    digests = {name: members.take(name, _part_reader(PixelsDigest)) for name in _DIGESTS}
    controls, prompts = (
        members.take(name, _list_reader(PixelsDigest)) or () for name in ("control_pictures", "image_prompts")
    )
    origin = Origin(**digests, controls=controls, image_prompts=prompts)
    beside = members.take("beside", _list_reader(ComponentRef)) or ()
    file = members.take("file", _part_reader(FileForm))
    parts = _Members(found.pop("components"), "components.")
    components = {kind: parts.take(kind.value, _pin_reader(kind)) for kind in Kind}
    texts = _texts_in(infotext, *(found.pop(_CHARACTERS[name], None) for name in TEXTS))
    # pictures from before it was told weighed nothing
    found.setdefault("weighting", "none")
    settings = {name: members.take(name, _reader(name)) for name in SETTINGS}
    story = Story(
        settings={**settings, **texts},
        components={kind: pin for kind, pin in components.items() if pin is not None},
        model=model,
        fallback_for=fallback_for,
        beside=beside,
        origin=origin,
        file=file,
        format=1 if form is None else form,
    )
    return Told(story, (*members.not_understood(), *parts.not_understood()))


class _Members:
    """Takes the members of an object one by one; an absent one and null are None, as they are for one that is wrong."""

    def __init__(self, found: dict[str, Any], prefix: str = "") -> None:
        self._left = found
        self._prefix = prefix
        self._wrong: list[str] = []

    def take(self, name: str, read: Callable[[Any], Value]) -> Value | None:
        """Read one member; the reader raises ValueError or ComponentError where it is wrong."""
        value = self._left.pop(name, None)
        try:
            return None if value is None else read(value)
        except (ValueError, RecursionError, ComponentError):
            self._wrong.append(name)
            return None

    def not_understood(self) -> tuple[str, ...]:
        """The names of those that were wrong, and of those that nobody took."""
        names = [*self._wrong, *self._left][:_MOST_NAMES]
        return tuple(quote(f"{self._prefix}{name}") for name in names)


def _texts_in(infotext: str | None, prompt: Any, negative: Any) -> dict[str, str]:
    """The texts that an infotext begins with, by their numbers of characters; none where it does not fit them."""
    counts = [count for count in (prompt, negative) if isinstance(count, int) and not isinstance(count, bool)]
    if infotext is None or len(counts) != 2 or min(counts) < 0:
        return {}
    before = "\nNegative prompt: " if counts[1] else ""
    start = counts[0] + len(before)
    if infotext[counts[0] : start] != before or len(infotext) < start + counts[1]:
        return {}
    return {"prompt": infotext[: counts[0]], "negative_prompt": infotext[start : start + counts[1]]}


def _read_format(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < _LARGEST:
        raise ValueError("no number of a format")
    return value


def _read_model(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no name")
    return quote(value)


def _part_reader(part: type[Part]) -> Callable[[Any], Part]:
    return lambda value: part.model_validate(value, strict=True)


def _list_reader(part: type[Part]) -> Callable[[Any], tuple[Part, ...]]:
    def read(value: Any) -> tuple[Part, ...]:
        if not isinstance(value, list) or len(value) > _MOST_PARTS:
            raise ValueError("no list of so few parts")
        return tuple(part.model_validate(one, strict=True) for one in value)

    return read


def _pin_reader(kind: Kind) -> Callable[[Any], ComponentRef]:
    def read(value: Any) -> ComponentRef:
        pin = ComponentRef.model_validate(value, strict=True)
        if kind_of(pin.name) != kind:
            raise ValueError("of another kind")
        return pin

    return read


def _reader(name: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if isinstance(value, int) and not -_LARGEST < value < _LARGEST:
            raise ValueError("too large")
        return SETTINGS[name].validate_json(json.dumps(value), strict=True)

    return read


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError("not finite")
    return number
