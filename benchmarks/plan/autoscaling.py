"""Serve's autoscaler in simulated time: its reports, the policy that the deployment names, its bounds and delays."""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple, Self

import simpy

# as Serve's controller applies them to what a policy wants; both take the time instead of asking the clock
from ray.serve.autoscaling_policy import _apply_delay_logic, _apply_scaling_factors
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from benchmarks.plan.stations import DenoiserReplica, Deployment, Steps
from services.scaling import SPEED, WORK

# how often Serve's controller decides would be ten times as often, and change nothing
_DECIDES_S = 1.0
# RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S, and the same of replicas
_REPORTS_S = 10


class _Sample(NamedTuple):
    at_s: float
    ongoing: int
    work: Mapping[int, float]
    speed: Mapping[int, float]


class _Report(NamedTuple):
    """The means of some samples: of calls, and of each replica's own figures."""

    ongoing: float
    metrics: Mapping[str, Mapping[int, float]]

    @classmethod
    def of(cls, samples: Collection[_Sample]) -> Self:
        ongoing = fmean(each.ongoing for each in samples)
        metrics = {WORK: _means(each.work for each in samples), SPEED: _means(each.speed for each in samples)}
        return cls(ongoing, metrics)


class Autoscaler:
    """Scales one deployment as its `autoscaling_config` says; a new replica takes `start_s` seconds to be there.

    `ongoing` says how many calls it has.
    """

    def __init__(
        self,
        env: simpy.Environment,
        deployment: Deployment[Any],
        options: Mapping[str, Any],
        start_s: float,
        ongoing: Callable[[], int],
    ) -> None:
        self._env, self._deployment, self._start_s, self._ongoing = env, deployment, start_s, ongoing
        self._config = AutoscalingConfig(**options)
        policy: Any = self._config.policy.get_policy()
        self._policy = policy(**self._config.policy.policy_kwargs) if isinstance(policy, type) else policy
        self._state: dict[str, Any] = {}
        self._samples: deque[_Sample] = deque()
        self._report: _Report | None = None
        env.process(self._decide_on())

    def _decide_on(self) -> Steps:
        while True:
            for _ in range(_REPORTS_S):
                self._samples.append(self._sample())
                while self._samples[0].at_s <= self._env.now - self._config.look_back_period_s:
                    self._samples.popleft()
                self._decide()
                yield self._env.timeout(_DECIDES_S)
            self._report = _Report.of(self._samples)

    def _sample(self) -> _Sample:
        denoisers = {id(each): each for each in self._deployment.replicas if isinstance(each, DenoiserReplica)}
        work = {number: each.work for number, each in denoisers.items()}
        speed = {number: each.speed for number, each in denoisers.items()}
        return _Sample(self._env.now, self._ongoing(), work, speed)

    def _decide(self) -> None:
        if self._report is None:
            return
        target, current = self._deployment.target, self._deployment.count
        wanted, _ = self._policy(self._context(self._report, current, target))
        config = self._config
        scaled = _apply_scaling_factors(wanted, current, config)
        bounded = min(config.max_replicas, max(config.min_replicas, scaled))
        if current == 0 and bounded > 0:
            decided = max(target, bounded)
        else:
            decided, self._state = _apply_delay_logic(bounded, target, config, self._state, self._env.now)
        if decided != target:
            self._deployment.scale(decided, self._start_s)

    def _context(self, report: _Report, current: int, target: int) -> AutoscalingContext:
        return AutoscalingContext(
            deployment_id=None,
            deployment_name=self._deployment.name,
            app_name=None,
            current_num_replicas=current,
            target_num_replicas=target,
            running_replicas=[],
            total_num_requests=report.ongoing,
            total_queued_requests=None,
            aggregated_metrics=report.metrics,
            raw_metrics=None,
            capacity_adjusted_min_replicas=self._config.min_replicas,
            capacity_adjusted_max_replicas=self._config.max_replicas,
            policy_state={},
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=self._env.now,
            config=self._config,
        )


def _means(samples: Iterable[Mapping[int, float]]) -> dict[int, float]:
    found: defaultdict[int, list[float]] = defaultdict(list)
    for sample in samples:
        for number, value in sample.items():
            found[number].append(value)
    return {number: fmean(values) for number, values in found.items()}
