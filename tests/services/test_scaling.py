"""How many denoisers are wanted, by Serve's own autoscaler: its bounds and delays come on top of the policy."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.serve.config import AutoscalingConfig

from services.scaling import SPEED, WORK, WorkPolicy, replicas_for
from services.stage_args import DenoiserArgs


def wanted(work: dict[str, float], speed: dict[str, float], target: int = 3) -> float:
    context: Any = SimpleNamespace(aggregated_metrics={WORK: work, SPEED: speed}, target_num_replicas=target)
    return WorkPolicy(5.0)(context)[0]


@pytest.mark.parametrize(
    ("work", "speed", "replicas"),
    [
        ({"a": 100.0}, {"a": 10.0}, 2.0),
        ({"a": 100.0, "b": 200.0}, {"a": 10.0, "b": 20.0}, 4.0),
        # one that has just started has no speed yet, and is taken to be as fast as the others
        ({"a": 100.0, "b": 0.0}, {"a": 10.0, "b": 0.0}, 2.0),
        ({"a": 0.0}, {"a": 10.0}, 0.0),
        # nobody tells anything
        ({}, {}, 3.0),
        # nobody knows how fast they are: as many as there are
        ({"a": 100.0}, {"a": 0.0}, 3.0),
        ({"a": 100.0}, {}, 3.0),
    ],
)
def test_as_many_as_have_it_done_in_time(work: dict[str, float], speed: dict[str, float], replicas: float) -> None:
    assert wanted(work, speed) == pytest.approx(replicas)


amounts = st.dictionaries(st.sampled_from("abcdef"), st.floats(1, 1e6), min_size=1)


@given(amounts, amounts, st.floats(0.1, 100))
def test_twice_the_work_wants_twice_the_replicas_and_twice_the_speed_half(
    work: dict[str, float], speed: dict[str, float], wait_s: float
) -> None:
    once = replicas_for(work, speed, wait_s)
    assert once is not None
    doubled = {name: 2 * each for name, each in work.items()}
    assert replicas_for(doubled, speed, wait_s) == pytest.approx(2 * once)
    faster = {name: 2 * each for name, each in speed.items()}
    assert replicas_for(work, faster, wait_s) == pytest.approx(once / 2)


def test_serve_takes_the_policy_as_the_config_names_it() -> None:
    options = DenoiserArgs(replicas=2, max_replicas=9, work_target_s=7).serve_options()["autoscaling_config"]
    config = AutoscalingConfig(**options)
    assert (config.min_replicas, config.max_replicas) == (2, 9)
    policy: Any = config.policy.get_policy()
    assert policy.__name__ == "WorkPolicy"
    context: Any = SimpleNamespace(aggregated_metrics={WORK: {"a": 140.0}, SPEED: {"a": 10.0}}, target_num_replicas=2)
    assert policy(**config.policy.policy_kwargs)(context) == (2.0, {})
