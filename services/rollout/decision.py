"""What new requests are pinned to: a record made of the rollout, the aliases, and what is known of versions."""

import uuid
from collections.abc import Collection, Mapping
from typing import TypeAlias

from components.compatibility import compatible
from components.contract import ALL_PARTS, PARTS, Contract, Kind
from components.reference import ComponentRef, kind_of, registered_name
from registry.errors import RegistryError
from registry.rollout.state import Rollout, State, bundle_of
from services.messages import LiveRecord
from services.rollout.last_good import live_model

FALLBACK_ALIAS = "fallback"

Aliases: TypeAlias = Mapping[str, Mapping[str, ComponentRef]]


def decide(
    bundle: str,
    rollout: Rollout,
    contracts: Mapping[ComponentRef, Contract],
    aliases: Aliases,
    fallback: ComponentRef | None,
    away_since: float | None,
) -> LiveRecord:
    """The record of a rollout; `contracts` holds every version that it names, and `fallback`."""
    beside = () if fallback is None else (fallback,)
    return LiveRecord(
        stamp=uuid.uuid4().hex,
        live=live_model(bundle, rollout, contracts),
        versions={ref: contracts[ref] for ref in (*rollout.refs, *beside)},
        fallback=fallback,
        canary=rollout.canary,
        shadow=rollout.shadow,
        aliases=aliases,
        away_since=away_since,
    )


def fallback_of(
    bundle: str,
    rollout: Rollout,
    contracts: Mapping[ComponentRef, Contract],
    aliases: Aliases,
    admitted: Collection[ComponentRef],
) -> ComponentRef | None:
    """Who decodes again what the live decoder gives wrong: the alias's version, else the decoder before; None without.

    It must fit what is live, and be the decoder before or in `admitted`.
    """
    name = registered_name(bundle, Kind.VAE_DECODER)
    denoiser = rollout.ref(registered_name(bundle, Kind.DENOISER))
    former = next((ref for ref in rollout.former if ref.name == name), None)
    for chosen in (aliases.get(name, {}).get(FALLBACK_ALIAS), former):
        if chosen is None or denoiser is None or chosen in rollout.components or chosen not in contracts:
            continue
        if (chosen == former or chosen in admitted) and not compatible(contracts[chosen], contracts[denoiser]):
            return chosen
    return None


def wanted(record: LiveRecord, preparing: State | None) -> dict[Kind, list[ComponentRef]]:
    """What each stage's replicas are to hold, the most important first: where there is no room, the last go.

    A stage that a bundle may do without is left out where it does.
    """
    refs = [*record.live.pins.values()]
    if record.canary is not None:
        refs.append(record.canary.ref)
    if preparing is not None:
        refs += preparing.refs
    if record.fallback is not None:
        refs.append(record.fallback)
    if record.shadow is not None:
        refs.append(record.shadow.ref)
    found = {kind: [ref for ref in dict.fromkeys(refs) if kind_of(ref.name) == kind] for kind in ALL_PARTS}
    return {kind: pins for kind, pins in found.items() if pins or kind in PARTS}


def require_bundle(bundle: str, state: State) -> None:
    """Refuse another bundle's versions: anyone with access to the registry may have written them.

    Raises:
        RegistryError: there are some.
    """
    if (found := bundle_of(state.components)) != bundle:
        raise RegistryError(f"bundle {bundle}: the versions named are those of bundle {found}")
