"""Reading infotexts as they are found: A1111's of any age, its forks', other programs' and our own."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from math import inf, isfinite
from types import MappingProxyType
from typing import Any, NamedTuple

from diffusion.errors import UnknownNameError
from diffusion.noise import LARGEST_SEED
from diffusion.samplers import SAMPLERS
from diffusion.samplers.aliases import Choice, find_choice, find_schedule_name
from diffusion.sigma_schedules import DEFAULT
from pipeline.masks import MOST_BLUR, MOST_PADDING
from pipeline.story.infotext import EMPHASIS_LABELS, LABELS, NEGATIVE, RNG_LABELS
from pipeline.story.infotext_hires import RESIZE, STEPS, UPSCALE, UPSCALER, find_upscaler, read_hires
from pipeline.story.record import SETTINGS, Story, Told, quote, valid

_FIRST = "Steps:"
_LEAST_PARAMETERS = 3
_MOST_PARAMETERS = 256
_MOST_LINES_AFTER = 64
# A1111's own form of a name; bounded, so that no text makes the search for its end start over and over
_NAME = re.compile(r"\s*(\w[\w \-/]{0,63}):\s*")
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_WHOLE = re.compile(r"[0-9]{1,19}")
_DECIMAL = re.compile(r"[0-9]{1,19}(\.[0-9]{0,19})?(e[+-]?[0-9]{1,3})?")
_MOST_UNDERSCORES = 8
_JSON = json.JSONDecoder(strict=False)
# they say which program and files made the picture, and nothing of how
_SAID = ("model", "model hash", "vae", "vae hash", "version", "user", "batch size", "batch pos")
_OURS = "latentworks"
_WEIGHTINGS = {label.casefold(): weighting for weighting, label in EMPHASIS_LABELS.items()}
_SOURCES = {label.casefold(): rng for rng, label in RNG_LABELS.items()} | {"gpu": "philox", "cuda": "philox"}


class _Parts(NamedTuple):
    """An infotext taken apart; the names of parameters are in small letters."""

    prompt: str | None
    negative_prompt: str
    parameters: Mapping[str, str]
    unknown: tuple[str, ...]


def read_infotext(text: str) -> Told | None:
    """What an infotext says, and every part of it that does not say a setting of ours; None where it is no infotext.

    It is one where a line begins with `Steps:`, the last holds three names with values, or one begins with
    `Negative prompt:`. It takes time in proportion to the text, whatever the text is, and raises nothing. As A1111 has
    it, a name that comes twice has its last value, where a seed comes without RNG its noise is CUDA's, and where
    nothing is said of emphasis a prompt's signs weigh, but in ours. A schedule may stand in the sampler's name.
    """
    parts = _parts(text)
    if parts is None:
        return None
    settings: dict[str, Any] = {}
    unknown = list(parts.unknown)
    for name, value in parts.parameters.items():
        if name in _SAID:
            continue
        try:
            settings |= _READERS[name](value)
        except (KeyError, ValueError):
            unknown.append(quote(f"{name}: {value}"))
    unknown += _settle(settings, parts.parameters)
    texts = {"prompt": parts.prompt, "negative_prompt": parts.negative_prompt}
    model = parts.parameters.get("model")
    story = Story(settings={**settings, **texts}, model=None if model is None else quote(model))
    return Told(story, tuple(unknown))


def _parts(text: str) -> _Parts | None:
    lines = text.strip().replace("\r\n", "\n").split("\n")
    at = _line_of_parameters(lines)
    before = lines if at is None else lines[:at]
    negative_at = next((n for n, line in enumerate(before) if line.lstrip().startswith(NEGATIVE)), None)
    if at is None and negative_at is None:
        return None
    prompt = valid("\n".join(before[:negative_at]).strip())
    negative = "" if negative_at is None else "\n".join(before[negative_at:]).strip().removeprefix(NEGATIVE).strip()
    named: dict[str, str] = {}
    unknown: list[str] = []
    for name, value in () if at is None else _pairs(lines[at]):
        if name is None:
            unknown.append(quote(value))
        else:
            named[name.casefold()] = valid(value)
    after = [] if at is None else lines[at + 1 : at + 1 + _MOST_LINES_AFTER]
    unknown += [quote(line) for line in after if line.strip()]
    return _Parts(prompt if prompt else None, valid(negative), named, tuple(unknown))


def _line_of_parameters(lines: list[str]) -> int | None:
    # some programs write lines of their own below it
    for at in range(len(lines) - 1, -1, -1):
        if lines[at].lstrip().startswith(_FIRST):
            return at
    named = sum(name is not None for name, _ in _pairs(lines[-1]))
    return len(lines) - 1 if named >= _LEAST_PARAMETERS else None


def _pairs(line: str) -> Iterator[tuple[str | None, str]]:
    """Names and values; a piece without a name has None, and so has the rest of a line with too many."""
    at = 0
    for _ in range(_MOST_PARAMETERS):
        if at >= len(line):
            return
        name = _NAME.match(line, at)
        value, at = _value(line, at if name is None else name.end())
        if name is not None:
            yield name[1].rstrip(), value
        elif value:
            yield None, value
        at += 1
    if at < len(line):
        yield None, line[at:].strip()


def _value(line: str, at: int) -> tuple[str, int]:
    """A value and where it ends: JSON, as A1111 quotes and Civitai lists things, or what comes before a comma."""
    if line[at : at + 1] in ('"', "[", "{"):
        try:
            value, end = _JSON.raw_decode(line, at)
        except (ValueError, RecursionError):
            pass
        else:
            if line[end : end + 1] in ("", ","):
                return value if isinstance(value, str) else line[at:end], end
    comma = line.find(",", at)
    end = len(line) if comma == -1 else comma
    return line[at:end].strip(), end


def _settle(settings: dict[str, Any], parameters: Mapping[str, str]) -> list[str]:
    """Bring together what several values say of one thing; returns what is not understood then."""
    unknown = []
    in_name, schedule = settings.pop("schedule in name", DEFAULT), settings.get("schedule", DEFAULT)
    if "sampler" in settings:
        row = SAMPLERS[settings["sampler"]]
        settings["schedule"] = in_name if schedule == DEFAULT else schedule
        if settings["schedule"] not in row.sigma_schedules:
            unknown.append(quote(f"schedule type: {settings.pop('schedule')}"))
        # of other samplers A1111 has an eta that we have not
        if "eta" in settings and not row.takes_eta and settings["eta"] != row.eta:
            unknown.append(f"eta: {settings.pop('eta')}")
    if settings.get("subseed_strength", 0) == 0:
        settings.pop("subseed", None)
    elif "subseed" not in settings:
        # which way it went is not told
        unknown.append(f"variation seed strength: {settings.pop('subseed_strength')}")
    unknown += _settle_hires(settings, parameters)
    if "seed" in settings and "rng" not in parameters:
        settings["rng"] = "philox"
    if "emphasis" not in parameters:
        settings["weighting"] = "none" if parameters.get("version", "").startswith(_OURS) else "a1111"
    return unknown


def _settle_hires(settings: dict[str, Any], parameters: Mapping[str, str]) -> list[str]:
    found = {label: settings.pop(label) for label in _HIRES if label in settings}
    told = [name for name in parameters if name.startswith("hires")]
    if not told:
        return []
    # with one that is not understood it is another second pass
    if len(told) == len(found):
        try:
            settings |= read_hires(found, settings)
        except ValueError:
            pass
        else:
            return []
    said = [quote(f"{name}: {parameters[name]}") for name in told if name in _READERS]
    # that of the second pass
    return said + ([f"denoising strength: {settings.pop('strength')}"] if "strength" in settings else [])


def _whole(setting: str, lowest: int, highest: int) -> Callable[[str], dict[str, Any]]:
    def read(value: str) -> dict[str, Any]:
        if not _WHOLE.fullmatch(value) or not lowest <= int(value) <= highest:
            raise ValueError(setting)
        return {setting: int(value)}

    return read


def _number(setting: str, highest: float) -> Callable[[str], dict[str, Any]]:
    def read(value: str) -> dict[str, Any]:
        if not _DECIMAL.fullmatch(value) or not 0 <= (number := float(value)) <= highest or not isfinite(number):
            raise ValueError(setting)
        return {setting: number}

    return read


def _sampler(value: str) -> dict[str, Any]:
    choice = _choice(value)
    return {"sampler": choice.sampler, "schedule in name": choice.schedule}


def _choice(value: str) -> Choice:
    try:
        return find_choice(value)
    except UnknownNameError:
        pass
    # ComfyUI's nodes that save infotexts write "dpmpp_2m_karras"
    pieces = value.split("_", _MOST_UNDERSCORES)
    for cut in range(1, len(pieces)):
        try:
            return find_choice(f"{'_'.join(pieces[:cut])} {' '.join(pieces[cut:])}")
        except UnknownNameError:
            continue
    raise ValueError("sampler")


def _schedule(value: str) -> dict[str, Any]:
    try:
        return {"schedule": find_schedule_name(value)}
    except UnknownNameError:
        raise ValueError("schedule") from None


def _size(value: str) -> dict[str, Any]:
    match = _SIZE.fullmatch(value)
    if match is None or "0" in (match[1].lstrip("0") or "0", match[2].lstrip("0") or "0"):
        raise ValueError("size")
    return {"width": int(match[1]), "height": int(match[2])}


def _resize(value: str) -> dict[str, Any]:
    match = _SIZE.fullmatch(value)
    if match is None or int(match[1]) == int(match[2]) == 0:
        raise ValueError("resize")
    return {RESIZE: (int(match[1]), int(match[2]))}


def _upscaler(value: str) -> dict[str, Any]:
    return {UPSCALER: find_upscaler(value)}


def _rng(value: str) -> dict[str, Any]:
    return {"rng": _SOURCES[value.casefold()]}


def _emphasis(value: str) -> dict[str, Any]:
    return {"weighting": _WEIGHTINGS[value.casefold()]}


def _by_label() -> dict[str, Callable[[str], dict[str, Any]]]:
    wholes = {
        "steps": (1, 10**6),
        "clip_skip": (1, 100),
        "padding_mask_crop": (0, MOST_PADDING),
        "seed": (0, LARGEST_SEED),
        "subseed": (0, LARGEST_SEED),
    }
    return {
        label.casefold(): _whole(name, *wholes[name]) if name in wholes else _number(name, _HIGHEST.get(name, 1.0))
        for name, label in LABELS.items()
        if name in SETTINGS
    }


_HIGHEST = {"guidance": inf, "mask_blur": MOST_BLUR}
_HIRES = (UPSCALE, RESIZE, STEPS, UPSCALER)
_READERS: Mapping[str, Callable[[str], dict[str, Any]]] = MappingProxyType(
    {
        **_by_label(),
        "sampler": _sampler,
        "schedule type": _schedule,
        "size": _size,
        UPSCALE.casefold(): _number(UPSCALE, 100.0),
        RESIZE.casefold(): _resize,
        STEPS.casefold(): _whole(STEPS, 0, 10**6),
        UPSCALER.casefold(): _upscaler,
        "rng": _rng,
        "emphasis": _emphasis,
        "eta": _number("eta", 1.0),
        "eta ddim": _number("eta", 1.0),
    }
)
