"""What `quality` asks for: more or fewer steps than a deployment's default, where a request names no steps."""

from typing import Literal, NamedTuple, TypeAlias

from components.contract import Contract
from pipeline.request import RequestRules
from services.messages import ToldQuality

Quality: TypeAlias = Literal["auto", "standard", "low", "medium", "high", "hd", "xhigh", "max"]


class _Level(NamedTuple):
    told: ToldQuality
    steps: float


# steps as a multiple of `rules.default_steps`
_LEVELS: dict[Quality, _Level] = {
    "low": _Level("low", 0.5),
    "auto": _Level("medium", 1),
    "standard": _Level("medium", 1),
    "medium": _Level("medium", 1),
    "high": _Level("high", 2),
    "hd": _Level("high", 2),
    "xhigh": _Level("xhigh", 3),
    "max": _Level("max", 4),
}


def told_quality(quality: Quality | None, steps: int | None) -> ToldQuality | None:
    """What an answer says; None where the request's own steps decided, which are no level."""
    return None if steps is not None else _LEVELS[quality or "auto"].told


def steps_of(quality: Quality | None, steps: int | None, denoiser: Contract, rules: RequestRules) -> int | None:
    """The steps of a request, at most as many as it could name; None for the default."""
    times = _LEVELS[quality or "auto"].steps
    if steps is not None or times == 1:
        return steps
    trained = denoiser.num_train_timesteps
    most = rules.max_steps if trained is None else min(rules.max_steps, trained)
    return min(most, max(1, round(rules.default_steps * times)))
