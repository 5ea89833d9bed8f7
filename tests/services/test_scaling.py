"""How many denoisers are wanted, by Serve's own autoscaler: its bounds and delays come on top of the policy."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.serve._private.autoscaling_state import DeploymentAutoscalingState
from ray.serve._private.common import (
    RUNNING_REQUESTS_KEY,
    DeploymentHandleSource,
    DeploymentID,
    HandleMetricReport,
    ReplicaID,
    ReplicaMetricReport,
    TimeSeries,
    TimeStampedValue,
)
from ray.serve._private.config import DeploymentConfig
from ray.serve.config import AutoscalingConfig

from services.scaling import SPEED, WORK, WorkPolicy, replicas_for
from services.stage_args import DenoiserArgs


def wanted(work: dict[str, float], speed: dict[str, float], target: int = 3, calls: float = 0.0) -> float:
    context: Any = SimpleNamespace(
        aggregated_metrics={WORK: work, SPEED: speed}, target_num_replicas=target, total_num_requests=calls
    )
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


@pytest.mark.parametrize(
    ("work", "calls", "replicas"),
    [
        # a call that waits for a replica, or for a version that is opened in one, is no work yet
        ({"a": 0.0}, 0.03, 1.0),
        ({"a": 0.0}, 7.0, 1.0),
        ({"a": 0.0}, 0.0, 0.0),
        ({"a": 100.0}, 1.0, 2.0),
        ({}, 1.0, 3.0),
    ],
)
def test_none_is_wanted_only_where_nobody_calls(work: dict[str, float], calls: float, replicas: float) -> None:
    assert wanted(work, {"a": 10.0}, calls=calls) == pytest.approx(replicas)


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
    context: Any = SimpleNamespace(
        aggregated_metrics={WORK: {"a": 140.0}, SPEED: {"a": 10.0}}, target_num_replicas=2, total_num_requests=3.0
    )
    assert policy(**config.policy.policy_kwargs)(context) == (2.0, {})


class Autoscaler:
    """Serve's own account of one denoiser's deployment, and what it decides."""

    def __init__(self, args: DenoiserArgs) -> None:
        options = args.serve_options()
        config = DeploymentConfig(
            autoscaling_config=AutoscalingConfig(**options["autoscaling_config"]),
            max_ongoing_requests=options["max_ongoing_requests"],
        )
        info: Any = SimpleNamespace(
            deployment_config=config,
            target_capacity=None,
            target_capacity_direction=None,
            config_changed=lambda _other: True,
        )
        self._id = DeploymentID("denoiser", "toy")
        self._state = DeploymentAutoscalingState(self._id)
        # what a deployment that is new has as its target
        self.target: int = self._state.register(info, 0)
        self._replicas: list[ReplicaID] = []

    def decides(self) -> int:
        self.target = self._state.get_decision_num_replicas(self.target)
        return self.target

    def run(self, replicas: int) -> None:
        self._replicas = [ReplicaID(str(number), self._id) for number in range(replicas)]
        self._state.update_running_replica_ids(self._replicas)

    def handle_tells(self, queued: float, running: float = 0.0) -> None:
        at = {replica.to_full_id_str(): now(running) for replica in self._replicas}
        report = HandleMetricReport(
            self._id, "a", "b", DeploymentHandleSource.UNKNOWN, now(queued), {RUNNING_REQUESTS_KEY: at}, time.time()
        )
        self._state.record_request_metrics_for_handle(report)

    def replicas_tell(self, work: float, speed: float) -> None:
        for replica in self._replicas:
            told = {WORK: now(work), SPEED: now(speed)}
            self._state.record_request_metrics_for_replica(ReplicaMetricReport(replica, told, time.time()))


def now(value: float) -> TimeSeries:
    return [TimeStampedValue(time.time(), value)]


RESTING = DenoiserArgs(
    replicas=0, max_replicas=4, upscale_delay_s=0, downscale_delay_s=0, downscale_to_zero_delay_s=0, work_target_s=5
)


def test_a_deployment_that_may_rest_begins_without_replicas_and_starts_one_for_whoever_waits() -> None:
    autoscaler = Autoscaler(RESTING)
    assert (autoscaler.target, autoscaler.decides()) == (0, 0)
    autoscaler.handle_tells(queued=9)
    # whatever upscale_delay_s
    assert autoscaler.decides() == 1
    # until it runs, and tells of its work, nobody asks for more or fewer
    assert autoscaler.decides() == 1
    autoscaler.run(1)
    assert autoscaler.decides() == 1


def test_it_rests_again_once_nothing_is_to_be_done_and_nobody_calls() -> None:
    autoscaler = Autoscaler(RESTING)
    autoscaler.handle_tells(queued=1)
    autoscaler.decides()
    autoscaler.run(1)
    autoscaler.handle_tells(queued=0, running=1)
    autoscaler.replicas_tell(work=0, speed=0)
    assert autoscaler.decides() == 1, "its call is no work yet"
    autoscaler.replicas_tell(work=150, speed=10)
    assert autoscaler.decides() == 3
    autoscaler.run(3)
    autoscaler.handle_tells(queued=0, running=0)
    autoscaler.replicas_tell(work=0, speed=10)
    # Serve goes down to one, and from there to none
    assert (autoscaler.decides(), autoscaler.decides()) == (1, 0)


def test_a_call_that_waits_in_a_handle_keeps_the_last_replica() -> None:
    autoscaler = Autoscaler(RESTING)
    autoscaler.handle_tells(queued=1)
    autoscaler.decides()
    autoscaler.run(1)
    autoscaler.handle_tells(queued=1)
    autoscaler.replicas_tell(work=0, speed=10)
    assert autoscaler.decides() == 1


def test_the_last_replica_stays_for_the_delay_of_its_own() -> None:
    autoscaler = Autoscaler(RESTING.model_copy(update={"downscale_to_zero_delay_s": 3600}))
    autoscaler.handle_tells(queued=1)
    autoscaler.decides()
    autoscaler.run(1)
    autoscaler.handle_tells(queued=0)
    autoscaler.replicas_tell(work=0, speed=10)
    assert [autoscaler.decides() for _ in range(3)] == [1, 1, 1]
