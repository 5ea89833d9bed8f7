"""What of a bundle is to be live, and what is: two records that the bundle carries as tags in the registry.

Whoever wants a change writes a `Plan`; the server's rollout controller follows it and writes the `Rollout`. So a
command line on one machine and a server on another meet in the registry and nowhere else.
"""

from collections.abc import Iterable
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from components.contract import PARTS
from components.errors import ComponentError
from components.record import Record
from components.reference import DEFAULT_ALIAS, ComponentRef, registered_name
from registry.errors import RegistryError

PLAN_TAG = "latentworks.plan"
ROLLOUT_TAG = "latentworks.rollout"
# databases keep no longer tag of a registered model
MAX_RECORD_CHARACTERS = 5000
MOST_LEAST = 1_000_000

Percent = Annotated[float, Field(gt=0, le=100)]
Rate = Annotated[float, Field(ge=0, le=1)]


class Canary(Record):
    """A version that `percent` of new requests are pinned to, chosen by their id or, where `sticky`, by their user.

    It is rolled back by itself once `least` of its requests are done and its share of errors, or of pictures that are
    not finite, is more than the given rate above that of the version it stands in for.
    """

    ref: ComponentRef
    percent: Percent
    sticky: bool = False
    least: int = Field(20, ge=1, le=MOST_LEAST)
    error_rate: Rate = 0.05
    non_finite_rate: Rate = 0.02


class Shadow(Record):
    """A VAE decoder that decodes the latents of `percent` of new requests once more, after they were answered."""

    ref: ComponentRef
    percent: Percent


class State(Record):
    """Versions of a bundle's components and what goes beside them."""

    components: tuple[ComponentRef, ...] = Field(description="one version of each of the bundle's parts")
    canary: Canary | None = None
    shadow: Shadow | None = None

    @field_validator("components")
    @classmethod
    def _names_each_once(cls, components: tuple[ComponentRef, ...]) -> tuple[ComponentRef, ...]:
        names = [ref.name for ref in components]
        if len(set(names)) != len(names):
            raise ValueError("a component is there more than once")
        return components

    @property
    def refs(self) -> tuple[ComponentRef, ...]:
        """Every version that requests could run, those beside the live ones last."""
        return (*self.components, *(extra.ref for extra in (self.canary, self.shadow) if extra is not None))

    def ref(self, name: str) -> ComponentRef | None:
        """The version of a registered name, None where there is none."""
        return next((ref for ref in self.components if ref.name == name), None)


class Plan(State):
    """What is wanted; a plan is followed once, and its `id` tells it from others.

    `replaced` is what was in production of names that no rollout held before, such as a preview decoder's.
    """

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    replaced: tuple[ComponentRef, ...] = ()


class Rollout(State):
    """What is: the components that new requests are pinned to, and how the last plan went.

    `previous` is what was live before the last promotion, which a rollback returns to; `former` is, of every name that
    ever changed, the version before. `server` is the id of the controller that follows the bundle's plans: it writes
    that with every record, and takes it back at its end, see `presence.leave`.
    """

    plan: str | None = Field(None, description="the id of the last plan taken up")
    state: Literal["live", "preparing", "stopped"]
    reason: str | None = Field(None, description="why the last plan was stopped, or a canary rolled back")
    previous: tuple[ComponentRef, ...] = ()
    former: tuple[ComponentRef, ...] = ()
    server: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")


Read = TypeVar("Read", Plan, Rollout)

_TAGS: dict[type[State], str] = {Plan: PLAN_TAG, Rollout: ROLLOUT_TAG}


def written(record: Plan | Rollout) -> str:
    """The record as its tag's value; a reason that is too long for it is shortened.

    Raises:
        RegistryError: it is longer than a tag may be all the same.
    """
    text = record.model_dump_json(exclude_defaults=True)
    if len(text) <= MAX_RECORD_CHARACTERS:
        return text
    if isinstance(record, Rollout) and record.reason:
        # by halves, as a character may take six in JSON
        return written(record.model_copy(update={"reason": record.reason[: len(record.reason) // 2] or None}))
    raise RegistryError(
        f"the record of {len(record.components)} components has {len(text)} characters; a tag of "
        f"the registry takes {MAX_RECORD_CHARACTERS}"
    )


def read(record: type[Read], text: str | None) -> Read | None:
    """The record that a tag holds, which anyone with access to the registry may have written; None without one.

    Raises:
        RegistryError: it is no such record.
    """
    if text is None:
        return None
    try:
        return record.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # a name in it may be anybody's
        where = ".".join(map(str, first["loc"]))[:60]
        reason = f"{where!r}: {first['msg']}" if where else first["msg"]
    except ComponentError as error:
        reason = str(error)[:200]
    raise RegistryError(
        f"the bundle's {record.__name__.lower()} in the registry is damaged: {reason}; "
        f"deleting its tag {_TAGS[record]} mends that"
    )


def with_changes(components: Iterable[ComponentRef], changes: Iterable[ComponentRef]) -> tuple[ComponentRef, ...]:
    """The components, each changed name in its new version, new names after the others."""
    new = {ref.name: ref for ref in components} | {ref.name: ref for ref in changes}
    return tuple(new.values())


def bundle_of(refs: Iterable[ComponentRef]) -> str:
    """The one bundle that versions belong to.

    Raises:
        RegistryError: there is none, or more than one, or two versions are of one name.
    """
    names = [ref.name for ref in refs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RegistryError(f"{', '.join(twice)}: is there more than once")
    bundles = sorted({name.split(".")[0] for name in names})
    if len(bundles) != 1:
        raise RegistryError(f"{', '.join(bundles) or 'nothing'}: must be components of one bundle")
    return bundles[0]


def require_parts(bundle: str, refs: Iterable[ComponentRef]) -> None:
    """Refuse versions that are not a whole bundle.

    Raises:
        RegistryError: one of the four of `PARTS` is missing.
    """
    names = {ref.name for ref in refs}
    if missing := [name for kind in PARTS if (name := registered_name(bundle, kind)) not in names]:
        raise RegistryError(f"bundle {bundle}: no version of {', '.join(missing)} is in {DEFAULT_ALIAS}")
