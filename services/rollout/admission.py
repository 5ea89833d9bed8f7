"""Whether a plan may be prepared at all."""

from components.reference import ComponentRef
from registry.errors import RegistryError
from registry.rollout.fit import check_plan
from registry.rollout.state import Plan, Rollout
from services.rollout.decision import require_bundle
from services.rollout.desk import Desk
from services.rollout.selection import Tries


async def require_admissible(bundle: str, plan: Plan, live: Rollout, desk: Desk, gate: Tries) -> list[ComponentRef]:
    """The versions of a plan that are not live yet.

    Raises:
        RegistryError: they do not fit, are not those of the registry, or do not pass the gate, for every reason said;
            a RegistryAwayError where the registry does not answer.
    """
    require_bundle(bundle, plan)
    await desk.ask(lambda registry: check_plan(registry, plan))
    for ref in plan.refs:
        # from here on its contract is known
        await desk.pin(ref.name, ref.version)
    if refusals := await gate.refusals(plan, live):
        raise RegistryError("; ".join(refusals))
    return [ref for ref in plan.refs if ref not in live.components]
