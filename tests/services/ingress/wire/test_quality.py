"""What `quality` does: steps in proportion to the default, unless the request names its own."""

from typing import Any

import pytest

from components.contract import Kind
from pipeline.request import RequestRules
from services.ingress.wire.quality import Quality, steps_of
from services.messages import LiveModel

Server = Any


@pytest.mark.parametrize(
    ("quality", "steps", "told"),
    [
        (None, 25, "medium"),
        ("auto", 25, "medium"),
        ("standard", 25, "medium"),
        ("medium", 25, "medium"),
        ("low", 12, "low"),
        ("high", 50, "high"),
        ("hd", 50, "high"),
        ("xhigh", 75, "xhigh"),
        ("max", 100, "max"),
    ],
)
def test_quality_sets_the_steps_and_is_told(server: Server, quality: str | None, steps: int, told: str) -> None:
    answer = server.generate(prompt="a", quality=quality).json()
    assert (server.orders[0].request.steps, answer["quality"]) == (steps, told)


def test_steps_of_the_request_stand_above_its_quality(server: Server) -> None:
    answer = server.generate(prompt="a", quality="high", steps=3).json()
    assert (server.orders[0].request.steps, answer["quality"]) == (3, None)


@pytest.mark.parametrize(
    ("quality", "default_steps", "steps"), [("high", 90, 150), ("max", 1, 4), ("low", 1, 1), ("low", 4, 2)]
)
def test_steps_stay_within_what_a_request_could_name(
    live: LiveModel, quality: Quality, default_steps: int, steps: int
) -> None:
    denoiser, rules = live.contracts[Kind.DENOISER], RequestRules(default_steps=default_steps)
    assert steps_of(quality, None, denoiser, rules) == steps
    schedule = denoiser.noise_schedule
    assert schedule is not None
    few = denoiser.model_copy(update={"noise_schedule": schedule.model_copy(update={"num_train_timesteps": 3})})
    assert steps_of(quality, None, few, rules) == min(steps, 3)
