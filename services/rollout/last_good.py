"""What is live, kept on disk: a start without the registry serves what was served last."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from components.contract import Contract, Kind
from components.errors import ComponentError
from components.record import Record
from components.reference import ComponentRef, kind_of
from registry.rollout.state import Rollout
from services.messages import LiveModel

MOST_REMEMBERED = 64


class KnownVersion(Record):
    """A version and its contract, neither of which ever changes."""

    ref: ComponentRef
    contract: Contract


class LastGood(Record):
    """All that the controller needs to serve: the rollout, every version that it names, and where aliases point.

    `served` was live at some time, `admitted` has passed the gate; requests may ask for both. The newest are last.
    """

    rollout: Rollout
    versions: tuple[KnownVersion, ...]
    aliases: Mapping[str, Mapping[str, ComponentRef]]
    served: tuple[ComponentRef, ...] = ()
    admitted: tuple[ComponentRef, ...] = ()

    @property
    def contracts(self) -> dict[ComponentRef, Contract]:
        """The contract of each version."""
        return {known.ref: known.contract for known in self.versions}


def live_model(bundle: str, rollout: Rollout, contracts: Mapping[ComponentRef, Contract]) -> LiveModel:
    """The rollout's components, by kind."""
    pins: dict[Kind, ComponentRef] = {}
    for ref in rollout.components:
        # a bundle's part has no name of its own behind its kind
        if ref.name == f"{bundle}.{kind_of(ref.name)}":
            pins[kind_of(ref.name)] = ref
    return LiveModel(bundle, pins, {kind: contracts[ref] for kind, ref in pins.items()})


def served_since(served: Iterable[ComponentRef], rollout: Rollout) -> tuple[ComponentRef, ...]:
    """What was live at some time, with what a rollout adds; the oldest are forgotten."""
    now = (*rollout.previous, *rollout.former, *rollout.components)
    return tuple(dict.fromkeys((*(ref for ref in served if ref not in now), *now)))[-MOST_REMEMBERED:]


def keep(file: Path, last_good: LastGood) -> None:
    """Write it, whole or not at all.

    Raises:
        OSError: the disk cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, work = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(last_good.model_dump_json())
            out.flush()
            os.fsync(out.fileno())
        Path(work).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(work).unlink()
        raise


def kept(file: Path) -> LastGood | None:
    """What was written there last; None where there is nothing, or nothing that can be used."""
    try:
        found = LastGood.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError, ComponentError):
        return None
    rollout = found.rollout
    if not set(rollout.refs) <= found.contracts.keys():
        return None
    return found.model_copy(update={"rollout": resumed(rollout)})


def resumed(rollout: Rollout) -> Rollout:
    """The rollout as a start goes on from it: a plan that was under way is taken up again."""
    return rollout.model_copy(update={"state": "live", "plan": None}) if rollout.state == "preparing" else rollout
