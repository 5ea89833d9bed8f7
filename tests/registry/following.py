"""A server's rollout controller as the registry sees it: a thread that follows plans and writes what became of them."""

import threading
from types import TracebackType
from typing import Self

from registry.errors import RegistryError
from registry.registry import Registry
from registry.rollout.fit import check_plan
from registry.rollout.outcome import followed
from registry.rollout.standing import standing
from registry.rollout.state import PLAN_TAG, ROLLOUT_TAG, Plan, Rollout, read, written
from registry.settings import RegistrySettings


class Follower(threading.Thread):
    """Follows the plans of a bundle while the block lasts; `reason` is why replicas cannot prepare any of them.

    It prepares until `prepared` is set, which it is from the beginning; `taken` is set once it has taken up a plan.
    """

    def __init__(self, settings: RegistrySettings, bundle: str, reason: str | None = None) -> None:
        super().__init__()
        self._settings, self._bundle, self._reason = settings, bundle, reason
        self._end = threading.Event()
        self.taken = threading.Event()
        self.prepared = threading.Event()
        self.prepared.set()
        self.seen: list[str] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._end.set()
        self.prepared.set()
        self.join()

    def run(self) -> None:
        registry = Registry.connect(self._settings)
        while not self._end.wait(0.02):
            plan = read(Plan, registry.survey(self._bundle).tags.get(PLAN_TAG))
            if plan is not None and plan.id not in self.seen:
                self.seen.append(plan.id)
                self._follow(registry, plan)

    def _follow(self, registry: Registry, plan: Plan) -> None:
        live = standing(registry, self._bundle).live
        before = live if isinstance(live, Rollout) else Rollout(components=live.components, state="live")
        self._write(registry, before.model_copy(update={"plan": plan.id, "state": "preparing", "reason": None}))
        self.taken.set()
        self.prepared.wait()
        try:
            check_plan(registry, plan)
            if self._reason is not None:
                raise RegistryError(self._reason)
        except RegistryError as error:
            stopped = {"plan": plan.id, "state": "stopped", "reason": str(error)}
            self._write(registry, before.model_copy(update=stopped))
            return
        with registry.writing():
            registry.promote_together([ref for ref in plan.components if ref not in before.components])
            self._write(registry, followed(before, plan))

    def _write(self, registry: Registry, rollout: Rollout) -> None:
        registry.set_bundle_tag(self._bundle, ROLLOUT_TAG, written(rollout))
