"""Where a bundle stands: what is live, what is wanted, and what the alias `production` says."""

from collections.abc import Mapping
from typing import NamedTuple

from components.contract import ALL_PARTS
from components.reference import ComponentRef, registered_name
from registry.errors import RegistryError
from registry.registry import Registry, Survey
from registry.rollout.state import PLAN_TAG, ROLLOUT_TAG, Plan, Rollout, State, read, require_parts


class Standing(NamedTuple):
    """Where a bundle stands: what is live, or in production where no server has said, and a plan not done yet.

    `production` is the version that the alias points at, of each component of the bundle that has it.
    """

    live: State
    pending: Plan | None
    production: Mapping[str, int]

    @property
    def wanted(self) -> State:
        """What a new plan changes."""
        return self.live if self.pending is None else self.pending

    @property
    def former(self) -> tuple[ComponentRef, ...]:
        """Versions that were live before."""
        return self.live.former if isinstance(self.live, Rollout) else ()

    @property
    def rollout(self) -> Rollout:
        """What is live, as the record that says so, also where none has been written."""
        return self.live if isinstance(self.live, Rollout) else Rollout(components=self.live.components, state="live")


def standing(registry: Registry, bundle: str) -> Standing:
    """Where a bundle stands.

    Raises:
        ComponentError: no bundle can be called so.
        RegistryError: the registry cannot be asked, a record in it is damaged, or nothing of the bundle is in it.
    """
    survey = registry.survey(bundle)
    if not survey.aliases:
        raise RegistryError(f"bundle {bundle}: nothing of it is in the registry")
    rollout = read(Rollout, survey.tags.get(ROLLOUT_TAG))
    live = State(components=_pointed(registry, bundle, survey)) if rollout is None else rollout
    return Standing(live, _pending(survey, rollout), survey.production)


def in_production(registry: Registry, bundle: str, survey: Survey) -> tuple[ComponentRef, ...]:
    """The bundle's parts that the alias `production` points at, in the order of `ALL_PARTS`.

    Raises:
        RegistryError: one of the four of `PARTS` has no such alias.
    """
    found = _pointed(registry, bundle, survey)
    require_parts(bundle, found)
    return found


def _pending(survey: Survey, rollout: Rollout | None) -> Plan | None:
    plan = read(Plan, survey.tags.get(PLAN_TAG))
    done = plan is None or (rollout is not None and rollout.plan == plan.id and rollout.state != "preparing")
    return None if done else plan


def _pointed(registry: Registry, bundle: str, survey: Survey) -> tuple[ComponentRef, ...]:
    names = [registered_name(bundle, kind) for kind in ALL_PARTS]
    at = survey.production
    return tuple(registry.version(name, at[name]).ref for name in names if name in at)
