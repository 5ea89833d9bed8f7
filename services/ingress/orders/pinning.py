"""Pins: which exact version of each component a request is drawn by, decided once, when it is admitted."""

import asyncio
import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from components.compatibility import compatible, mismatches_among
from components.contract import Contract, Kind
from components.errors import ComponentError
from components.reference import ComponentRef, Selector, kind_of
from services.errors import FieldError, UnavailableError
from services.messages import OVERRIDABLE, LiveRecord, Outcome, Pins

_log = logging.getLogger("ray.serve")

# how long the controller may keep a question for news, and how often it learns how requests ended
_NEWS_S = 1.0
_RETRY_S = 0.5
_MOST_OUTCOMES = 10_000
# longer than a registry's two attempts take by default
_ANSWER_S = 40.0
_LONGEST_SELECTOR = 256


@dataclass(frozen=True, slots=True)
class Pinned:
    """One request's versions and their contracts; `fallback` and `shadow` as in `Order`."""

    pins: Pins
    contracts: Mapping[Kind, Contract]
    fallback: ComponentRef | None
    shadow: ComponentRef | None


class Pinning:
    """Keeps the controller's newest record, and pins requests by it; used from one event loop only.

    While the controller does not answer, the last record holds.
    """

    def __init__(self, rollout: DeploymentHandle, record: LiveRecord) -> None:
        self._rollout = rollout
        self.record = record
        self._outcomes: list[Outcome] = []

    async def follow(self) -> None:
        """Ask the controller for news, for ever."""
        while True:
            outcomes, self._outcomes = self._outcomes, []
            try:
                news = await self._rollout.record.remote(self.record.stamp, _NEWS_S, outcomes)
            except (RayError, RayServeException) as error:
                _log.warning("the rollout controller does not answer: %s", type(error).__name__)
                self.ended(outcomes)
                await asyncio.sleep(_RETRY_S)
                continue
            if news is not None:
                self.record = news

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """Tell the controller how requests ended, when it is asked next."""
        self._outcomes.extend(outcomes[: max(0, _MOST_OUTCOMES - len(self._outcomes))])

    async def component(self, kind: Kind, selector: str, field: str) -> tuple[ComponentRef, Contract]:
        """The version of a kind that a request's field asks for, and its contract.

        Raises:
            FieldError: there is no such version, it is of another kind, or it has not passed the gate.
            UnavailableError: it is not known yet, and the registry or the rollout controller does not answer.
        """
        check_selector((kind,), selector, field)
        ref: ComponentRef
        contract: Contract
        try:
            async with asyncio.timeout(_ANSWER_S):
                ref, contract = await self._rollout.component.remote(selector, field)
        except TimeoutError:
            raise UnavailableError(f"{field}: nobody says just now which version this is; try again later") from None
        return ref, contract

    def fallback(self, decoder: ComponentRef, denoiser: Contract) -> ComponentRef | None:
        """The version that decodes a denoiser's latents where `decoder` gives no picture, None where there is none."""
        return _fallback(self.record, decoder, denoiser)

    def live(self, request: str) -> Pinned:
        """The live versions, for a request by its id."""
        record = self.record
        return _pinned(record, record.live.pins, record.live.contracts, request)

    def pin(self, request: str, user: str) -> Pinned:
        """The versions for one request that names none, by its id and its user: the live ones, or a canary's."""
        record, canary = self.record, self.record.canary
        pins, contracts = dict(record.live.pins), dict(record.live.contracts)
        if canary is not None:
            key = user if canary.sticky and user else request
            if _share(f"canary {canary.ref}", key) < canary.percent:
                kind = kind_of(canary.ref.name)
                pins[kind], contracts[kind] = canary.ref, record.versions[canary.ref]
        return _pinned(record, pins, contracts, request)

    async def choose(self, request: str, chosen: Mapping[Kind, str]) -> Pinned:
        """The versions for one request, by its id, that names some of them; beside those the live ones, no canary.

        Raises:
            FieldError: a version asked for is not to be had, or does not fit the others; every mismatch is said.
            UnavailableError: it is not known yet, and the registry does not answer.
        """
        # what fits the live versions may not fit those that a caller chose: hence no canary
        record = self.record
        pins, contracts = dict(record.live.pins), dict(record.live.contracts)
        for kind, selector in chosen.items():
            pins[kind], contracts[kind] = await self.component(kind, selector, f"components.{kind}")
        mismatches = mismatches_among(contracts.values())
        if mismatches:
            named = ", ".join(str(pins[kind]) for kind in chosen)
            raise FieldError(f"components: {named} does not fit: {'; '.join(mismatches)}", "components")
        return _pinned(record, pins, contracts, request)

    async def exact(self, asked: Pins) -> Pinned:
        """Those very versions: nothing stands in for one that gives no picture, and nothing is tried beside them.

        Raises:
            FieldError: one is not to be had, has another digest here, or does not fit the others; it is named.
            UnavailableError: as `choose`.
        """
        contracts: dict[Kind, Contract] = {}
        for kind, pin in asked.items():
            field = f"components.{kind}"
            present, contracts[kind] = await self.component(kind, str(pin), field)
            if present != pin:
                raise FieldError(
                    f"{field}: {pin} has the sha256 {present.sha256} here, not {pin.sha256}: it is another component",
                    field,
                )
        if mismatches := mismatches_among(contracts.values()):
            raise FieldError(f"components: they do not fit each other: {'; '.join(mismatches)}", "components")
        return Pinned(asked, contracts, fallback=None, shadow=None)


def choices(overrides: Mapping[str, str]) -> dict[Kind, str]:
    """The versions that a request names for kinds, by selectors; nobody is asked for them yet.

    Raises:
        FieldError: a kind or a selector is none.
    """
    # all names first: there are only so many kinds
    chosen = {_overridable(name): selector for name, selector in overrides.items()}
    for kind, selector in chosen.items():
        check_selector((kind,), selector, f"components.{kind}")
    return chosen


def check_selector(kinds: Collection[Kind], selector: str, field: str) -> Kind:
    """The kind, one of these, of which a selector names a version; nobody is asked whether there is one.

    Raises:
        FieldError: it is too long, of another form, or names another kind; `field` is named.
    """
    if len(selector) > _LONGEST_SELECTOR:
        raise FieldError(f"{field}: has {len(selector)} characters, must have at most {_LONGEST_SELECTOR}", field)
    if not selector.isascii():
        raise FieldError(f"{field}={selector!r}: must be NAME@ALIAS or NAME/VERSION, in plain letters", field)
    try:
        named = kind_of(Selector.parse(selector).name)
    except ComponentError as error:
        raise FieldError(f"{field}: {error}", field) from None
    if named not in kinds:
        raise FieldError(f"{field}: {selector} is a {named}, must be a {' or '.join(kinds)}", field)
    return named


def _pinned(record: LiveRecord, pins: Pins, contracts: Mapping[Kind, Contract], request: str) -> Pinned:
    fallback = _fallback(record, pins[Kind.VAE_DECODER], contracts[Kind.DENOISER])
    return Pinned(pins, contracts, fallback, _shadow(record, pins, contracts, request))


def _fallback(record: LiveRecord, decoder: ComponentRef, denoiser: Contract) -> ComponentRef | None:
    # what stands in for the live version may fall back on that too
    for other in (record.fallback, record.live.pins[Kind.VAE_DECODER]):
        if other is not None and other != decoder and not compatible(record.versions[other], denoiser):
            return other
    return None


def _shadow(record: LiveRecord, pins: Pins, contracts: Mapping[Kind, Contract], request: str) -> ComponentRef | None:
    shadow = record.shadow
    # it is compared with what is live
    if shadow is None or pins[Kind.VAE_DECODER] != record.live.pins[Kind.VAE_DECODER]:
        return None
    if compatible(record.versions[shadow.ref], contracts[Kind.DENOISER]):
        return None
    return shadow.ref if _share(f"shadow {shadow.ref}", request) < shadow.percent else None


def _share(salt: str, key: str) -> float:
    """Where in 0..100 a key falls, evenly, and otherwise for every salt."""
    digest = hashlib.sha256(f"{salt} {key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) / 2**64 * 100


def _overridable(name: str) -> Kind:
    if name not in OVERRIDABLE:
        limit = ", ".join(OVERRIDABLE)
        raise FieldError(
            f"components: {name[:64]!r}: must be one of {limit}, which take part in a picture", "components"
        )
    return Kind(name)
