"""What is asked for: how often, which pictures, how soon; as it is written on the command line."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.errors import BenchmarkError

_RATE = re.compile(r"^(?P<count>\d+(?:\.\d+)?)/(?P<unit>s|min|h)$")
_SECONDS = re.compile(r"^(?P<count>\d+(?:\.\d+)?)(?P<unit>ms|s|min)$")
_ASKED = re.compile(r"^(?P<steps>\d+)x(?P<width>\d+)x(?P<height>\d+)(?:=(?P<share>\d+(?:\.\d+)?))?$")
_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_MOST_PER_S = 1e3
_MOST_S = 3600.0
_MOST_STEPS, _MOST_SIDE = 1000, 16_384


@dataclass(frozen=True, slots=True)
class Size:
    """The width and height of a picture, in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class Asked:
    """Guided pictures of one kind, and their share of all; only the ratios of shares count."""

    steps: int
    size: Size
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request for one picture, and the second at which it comes."""

    at_s: float
    asked: Asked


def rate_of(text: str) -> float:
    """Requests a second, from `5/s`, `300/min` or `1000/h`.

    Raises:
        BenchmarkError: it is something else, or not within 0 and 1,000 a second: more would take hours to simulate.
    """
    match = _RATE.match(text)
    rate = 0.0 if match is None else float(match["count"]) / _UNITS[match["unit"]]
    if not 0 < rate <= _MOST_PER_S:
        raise BenchmarkError(
            f"--rate {text}: must be such as 5/s, 300/min or 1000/h, above 0, at most {_MOST_PER_S:g}/s"
        )
    return rate


def seconds_of(option: str, text: str) -> float:
    """Seconds, from `3s`, `800ms` or `2min`.

    Raises:
        BenchmarkError: it is something else, or not within 0 and an hour; the message names the option.
    """
    match = _SECONDS.match(text)
    seconds = 0.0 if match is None else float(match["count"]) * _UNITS[match["unit"]]
    if not 0 < seconds <= _MOST_S:
        raise BenchmarkError(f"{option} {text}: must be such as 3s, 800ms or 2min, above 0, at most {_MOST_S:g}s")
    return seconds


def mix_of(text: str) -> tuple[Asked, ...]:
    """Kinds of pictures, from `STEPSxWIDTHxHEIGHT=SHARE,...`; one alone needs no share.

    Raises:
        BenchmarkError: it is something else, or names a kind twice.
    """
    found: list[Asked] = []
    for word in text.split(","):
        match = _ASKED.match(word.strip())
        if match is None:
            raise BenchmarkError(f"--mix {word}: must be STEPSxWIDTHxHEIGHT=SHARE, such as 20x512x512=0.8")
        steps, width, height = (int(match[name]) for name in ("steps", "width", "height"))
        share = 1.0 if match["share"] is None else float(match["share"])
        for name, value, most in (
            ("steps", steps, _MOST_STEPS),
            ("width", width, _MOST_SIDE),
            ("height", height, _MOST_SIDE),
        ):
            if not 1 <= value <= most:
                raise BenchmarkError(f"--mix {word}: {name} must be from 1 to {most}, not {value}")
        if not share > 0:
            raise BenchmarkError(f"--mix {word}: the share must be above 0")
        found.append(Asked(steps, Size(width, height), share))
    kinds = [(each.steps, each.size) for each in found]
    if len(set(kinds)) < len(kinds):
        raise BenchmarkError(f"--mix {text}: names the same steps and size twice")
    return tuple(found)


def poisson(mix: tuple[Asked, ...], per_second: float, seconds: float, seed: int) -> Iterator[Arrival]:
    """Requests of a mix, at the moments of a Poisson process; `seed` says which and when."""
    rng = np.random.default_rng(seed)
    shares = np.array([each.share for each in mix])
    at_s = 0.0
    while (at_s := at_s + float(rng.exponential(1 / per_second))) < seconds:
        yield Arrival(at_s, mix[int(rng.choice(len(mix), p=shares / shares.sum()))])


def burst(
    mix: tuple[Asked, ...], per_second: float, times: float, within: tuple[float, float], seconds: float, seed: int
) -> Iterator[Arrival]:
    """The same, but that between two moments so many times as many come."""
    begins, ends = within
    for number, (start, stop, factor) in enumerate(((0.0, begins, 1.0), (begins, ends, times), (ends, seconds, 1.0))):
        for arrival in poisson(mix, per_second * factor, stop - start, seed + number):
            yield Arrival(start + arrival.at_s, arrival.asked)
