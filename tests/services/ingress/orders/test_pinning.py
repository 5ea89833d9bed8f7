"""Which versions a request gets: the live ones, a canary by its hash, or those that it asks for."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import RayError

from components.contract import Contract, Kind
from components.reference import ComponentRef
from registry.rollout.state import Canary, Shadow
from services.errors import FieldError, UnavailableError
from services.ingress.orders import pinning
from services.ingress.orders.pinning import Pinned, Pinning, choices
from services.messages import LiveModel, LiveRecord, Outcome
from tests.services.conftest import CONTRACTS, record_of

MANY = 4000
DECODER = CONTRACTS[Kind.VAE_DECODER]


def another(live: LiveModel, kind: Kind, version: int = 2) -> ComponentRef:
    return live.pins[kind].model_copy(update={"version": version, "sha256": f"{version:064x}"})


def foreign(kind: Kind) -> Contract:
    """A contract of another latent space."""
    contract = CONTRACTS[kind]
    assert contract.latent_space is not None
    space = contract.latent_space.model_copy(update={"id": "elsewhere", "scaling_factor": 0.25})
    return contract.model_copy(update={"latent_space": space})


class FakeHandle:
    """The rollout's handle: versions by what a caller writes, and answers to each question for news.

    An answer that is an exception is raised; after the last nothing comes any more.
    """

    def __init__(self, *news: LiveRecord | Exception | None) -> None:
        self.versions: dict[str, tuple[ComponentRef, Contract]] = {}
        self.news = list(news)
        self.asked: list[tuple[str, list[Outcome]]] = []
        self.silent = asyncio.Event()
        self.record = Call(self._record)
        self.component = Call(self._component)

    async def _record(self, stamp: str, _wait_s: float, outcomes: Sequence[Outcome]) -> LiveRecord | None:
        self.asked.append((stamp, list(outcomes)))
        if not self.news:
            self.silent.set()
            await asyncio.Event().wait()
        answer = self.news.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _component(self, selector: str, field: str) -> tuple[ComponentRef, Contract]:
        if selector not in self.versions:
            raise FieldError(f"{field}: {selector} is not in the registry", field)
        return self.versions[selector]


class Call:
    def __init__(self, remote: Any) -> None:
        self.remote = remote


def pinning_of(record: LiveRecord, handle: FakeHandle | None = None) -> Pinning:
    return Pinning(cast(Any, FakeHandle() if handle is None else handle), record)


def pin(pinned_by: Pinning, request: str, user: str = "", **overrides: str) -> Pinned:
    if not overrides:
        return pinned_by.pin(request, user)
    return asyncio.run(pinned_by.choose(request, choices(overrides)))


def pin_many(pinned_by: Pinning, users: int | None = None) -> list[Pinned]:
    return [
        pinned_by.pin(f"request {index}", "" if users is None else f"user {index % users}") for index in range(MANY)
    ]


def canaried(live: LiveModel, percent: float, sticky: bool = False, kind: Kind = Kind.VAE_DECODER) -> LiveRecord:
    canary = Canary(ref=another(live, kind), percent=percent, sticky=sticky)
    return record_of(live, canary=canary, versions={canary.ref: CONTRACTS[kind]})


def test_what_is_live(live: LiveModel) -> None:
    pinned = pin(pinning_of(record_of(live)), "a request")
    assert (pinned.pins, pinned.contracts) == (live.pins, live.contracts)
    assert (pinned.fallback, pinned.shadow) == (None, None)
    canaries = pinning_of(canaried(live, 100))
    assert canaries.live("a request").pins == live.pins


# --- canaries


@pytest.mark.parametrize("percent", [1, 10, 50, 99, 100])
def test_a_canary_gets_its_share(live: LiveModel, percent: float) -> None:
    pinned = pin_many(pinning_of(canaried(live, percent)))
    share = sum(one.pins[Kind.VAE_DECODER].version == 2 for one in pinned) / MANY * 100
    # five standard deviations of so many fair draws
    assert abs(share - percent) <= 5 * (percent * (100 - percent) / MANY) ** 0.5
    for one in pinned:
        assert {kind for kind in live.pins if one.pins[kind] != live.pins[kind]} <= {Kind.VAE_DECODER}


@given(request=st.text(max_size=40), user=st.text(max_size=40))
def test_the_same_id_gets_the_same_pin_and_more_percent_take_none_away(
    live: LiveModel, request: str, user: str
) -> None:
    versions = []
    for percent in (5, 25, 60, 100):
        record = canaried(live, percent)
        versions.append(pin(pinning_of(record), request, user).pins[Kind.VAE_DECODER].version)
        assert versions[-1] == pin(pinning_of(record), request, "somebody").pins[Kind.VAE_DECODER].version
    assert versions == sorted(versions)
    assert versions[-1] == 2


def test_a_lone_surrogate_is_an_id_too(live: LiveModel) -> None:
    assert pin(pinning_of(canaried(live, 100)), "\ud800").pins[Kind.VAE_DECODER].version == 2


def test_a_sticky_canary_stays_with_its_users(live: LiveModel) -> None:
    record = canaried(live, 30, sticky=True)
    pinned = pin_many(pinning_of(record), users=400)
    by_user: dict[int, set[int]] = {}
    for index, one in enumerate(pinned):
        by_user.setdefault(index % 400, set()).add(one.pins[Kind.VAE_DECODER].version)
    assert all(len(versions) == 1 for versions in by_user.values())
    share = sum(versions == {2} for versions in by_user.values()) / 400 * 100
    assert 18 <= share <= 42
    nameless = pin_many(pinning_of(record))
    assert {one.pins[Kind.VAE_DECODER].version for one in nameless} == {1, 2}, "who has no name goes by the request"


def test_two_canaries_draw_independently(live: LiveModel) -> None:
    first, second = canaried(live, 50), canaried(live, 50, kind=Kind.DENOISER)
    both = pin_many(pinning_of(first)), pin_many(pinning_of(second))
    alike = sum(
        (one.pins[Kind.VAE_DECODER].version == 2) == (two.pins[Kind.DENOISER].version == 2)
        for one, two in zip(*both, strict=True)
    )
    assert 0.4 < alike / MANY < 0.6


# --- fallback and shadow


def test_a_canary_falls_back_on_what_is_live_and_not_on_itself(live: LiveModel) -> None:
    decoder, canary = live.pins[Kind.VAE_DECODER], another(live, Kind.VAE_DECODER)
    assert pin(pinning_of(canaried(live, 100)), "").fallback == decoder
    record = record_of(
        live, canary=Canary(ref=canary, percent=100), fallback=canary, versions={canary: CONTRACTS[Kind.VAE_DECODER]}
    )
    assert pin(pinning_of(record), "").fallback == decoder
    third = another(live, Kind.VAE_DECODER, 3)
    record = record_of(
        live, canary=Canary(ref=canary, percent=100), fallback=third, versions={canary: DECODER, third: DECODER}
    )
    assert pin(pinning_of(record), "").fallback == third


def test_kept_latents_fall_back_as_a_generation_does(live: LiveModel) -> None:
    decoder, other, third = live.pins[Kind.VAE_DECODER], *(another(live, Kind.VAE_DECODER, at) for at in (2, 3))
    denoiser = CONTRACTS[Kind.DENOISER]
    plain = pinning_of(record_of(live))
    assert plain.fallback(decoder, denoiser) is None
    assert plain.fallback(other, denoiser) == decoder, "the live version stands in where there is no other"
    named = pinning_of(record_of(live, fallback=third, versions={third: DECODER}))
    assert (named.fallback(other, denoiser), named.fallback(third, denoiser)) == (third, decoder)
    assert named.fallback(other, foreign(Kind.DENOISER)) is None, "neither fits"
    unfit = pinning_of(record_of(live, fallback=third, versions={third: foreign(Kind.VAE_DECODER)}))
    assert unfit.fallback(other, denoiser) == decoder


def test_a_fallback_and_all_that_is_asked_for_must_fit_the_denoiser(live: LiveModel) -> None:
    third = another(live, Kind.VAE_DECODER, 3)
    record = record_of(live, fallback=third, versions={third: DECODER})
    assert pin(pinning_of(record), "").fallback == third
    handle = FakeHandle()
    chosen = {kind: another(live, kind, 7) for kind in (Kind.DENOISER, Kind.VAE_DECODER, Kind.VAE_ENCODER)}
    handle.versions = {str(ref): (ref, foreign(kind)) for kind, ref in chosen.items()}
    with pytest.raises(FieldError, match="latent space id: denoiser has elsewhere, vae_encoder has toy"):
        pin(pinning_of(record, handle), "", denoiser="toy.denoiser/7", vae_decoder="toy.vae_decoder/7")


@pytest.mark.slow
def test_a_shadow_gets_its_share_of_what_the_live_decoder_draws(live: LiveModel) -> None:
    shadow = Shadow(ref=another(live, Kind.VAE_DECODER, 3), percent=20)
    canary = Canary(ref=another(live, Kind.VAE_DECODER), percent=50)
    record = record_of(live, canary=canary, shadow=shadow, versions={canary.ref: DECODER, shadow.ref: DECODER})
    pinned = pin_many(pinning_of(record))
    lives = [one for one in pinned if one.pins[Kind.VAE_DECODER].version == 1]
    assert {one.shadow for one in pinned if one not in lives} == {None}, "it is compared with what is live"
    share = sum(one.shadow == shadow.ref for one in lives) / len(lives) * 100
    assert 16 <= share <= 24, "whatever the canary's draw was"
    unfit = record_of(
        live, shadow=Shadow(ref=shadow.ref, percent=100), versions={shadow.ref: foreign(Kind.VAE_DECODER)}
    )
    assert pin(pinning_of(unfit), "").shadow is None


# --- what callers ask for


def test_overrides(live: LiveModel) -> None:
    handle = FakeHandle()
    decoder, text = another(live, Kind.VAE_DECODER, 9), another(live, Kind.TEXT_ENCODER, 4)
    handle.versions = {
        "toy.vae_decoder@candidate": (decoder, DECODER),
        "toy.text_encoder/4": (text, CONTRACTS[Kind.TEXT_ENCODER]),
    }
    record = canaried(live, 100)
    pinned = pin(
        pinning_of(record, handle), "", vae_decoder="toy.vae_decoder@candidate", text_encoder="toy.text_encoder/4"
    )
    assert (pinned.pins[Kind.VAE_DECODER], pinned.pins[Kind.TEXT_ENCODER]) == (decoder, text)
    assert pinned.pins[Kind.DENOISER] == live.pins[Kind.DENOISER]
    assert (pinned.fallback, pinned.shadow) == (live.pins[Kind.VAE_DECODER], None)
    only_text = pin(pinning_of(record, handle), "", text_encoder="toy.text_encoder/4")
    assert only_text.pins[Kind.VAE_DECODER] == live.pins[Kind.VAE_DECODER], "a canary is nobody's choice"


@pytest.mark.parametrize(
    ("overrides", "param", "said"),
    [
        (
            {"vae_decoder": "toy.vae_decoder/9"},
            "components",
            "components: toy.vae_decoder/9 does not fit: latent space id: denoiser has toy, vae_decoder has elsewhere; "
            "latent space scaling_factor: denoiser has 0.5, vae_decoder has 0.25",
        ),
        (
            {"vae_decoder": "toy.denoiser/9"},
            "components.vae_decoder",
            "toy.denoiser/9 is a denoiser, must be a vae_decoder",
        ),
        ({"vae_decoder": "toy.vae_decoder/8"}, "components.vae_decoder", "toy.vae_decoder/8 is not in the registry"),
        ({"vae_decoder": "nothing"}, "components.vae_decoder", "'nothing': must be NAME@ALIAS or NAME/VERSION"),
        ({"vae_decoder": "toy.encoder/1"}, "components.vae_decoder", "'toy.encoder': must be <bundle>.<kind>"),
        ({"vae_encoder": "x"}, "components", "'vae_encoder': must be one of text_encoder, denoiser, vae_decoder"),
        ({"preview_decoder": "x"}, "components", "'preview_decoder': must be one of text_encoder"),
        ({"x" * 500: "x"}, "components", "must be one of text_encoder"),
        ({"vae_decoder": "x" * 300}, "components.vae_decoder", "has 300 characters, must have at most 256"),
    ],
)
def test_what_cannot_be_asked_for(live: LiveModel, overrides: dict[str, str], param: str, said: str) -> None:
    handle = FakeHandle()
    handle.versions = {"toy.vae_decoder/9": (another(live, Kind.VAE_DECODER, 9), foreign(Kind.VAE_DECODER))}
    with pytest.raises(FieldError) as caught:
        pin(pinning_of(record_of(live), handle), "", **overrides)
    assert said in caught.value.message
    assert (caught.value.param, len(caught.value.message) < 600) == (param, True)


def test_nobody_is_asked_where_a_name_is_wrong(live: LiveModel) -> None:
    handle = FakeHandle()
    with pytest.raises(FieldError, match="'nonsense'"):
        pin(pinning_of(record_of(live), handle), "", vae_decoder="toy.vae_decoder/8", nonsense="x")
    with pytest.raises(FieldError, match="'text'"):
        pin(pinning_of(record_of(live), handle), "", vae_decoder="toy.vae_decoder/8", text_encoder="text")


def test_a_controller_that_says_nothing_is_not_waited_for_for_ever(
    live: LiveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_selector: str, _field: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(pinning, "_ANSWER_S", 0.01)
    handle = FakeHandle()
    handle.component = Call(never)
    with pytest.raises(UnavailableError, match=r"components\.denoiser: nobody says just now"):
        pin(pinning_of(record_of(live), handle), "", denoiser="toy.denoiser/2")
    assert pin(pinning_of(record_of(live), handle), "").pins == live.pins


# --- following the controller


def outcomes(live: LiveModel, number: int) -> list[Outcome]:
    return [Outcome(live.pins[Kind.DENOISER])] * number


def test_news_are_pinned_to_at_once(live: LiveModel) -> None:
    news = canaried(live, 100)

    async def run() -> None:
        handle = FakeHandle(None, news)
        follower = pinning_of(record_of(live), handle)
        follower.ended(outcomes(live, 2))
        task = asyncio.create_task(follower.follow())
        await handle.silent.wait()
        assert follower.record is news
        assert [asked for _, asked in handle.asked] == [outcomes(live, 2), [], []], "each is told once"
        assert [stamp for stamp, _ in handle.asked] == ["first"] * 3
        task.cancel()

    asyncio.run(run())


def test_while_the_controller_is_gone_the_last_record_holds_and_nothing_is_lost(
    live: LiveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinning, "_RETRY_S", 0)

    async def run() -> None:
        handle = FakeHandle(None, RayError("it died"), RayError("it is not back yet"), None)
        follower = pinning_of(record_of(live), handle)
        follower.ended(outcomes(live, 3))
        task = asyncio.create_task(follower.follow())
        while len(handle.asked) < 2:
            await asyncio.sleep(0)
        follower.ended(outcomes(live, 2))
        await handle.silent.wait()
        assert follower.pin("", "").pins == live.pins
        assert sum(len(asked) for _, asked in handle.asked[-3:]) >= 2
        told = [asked for _, asked in handle.asked]
        assert told[0] == outcomes(live, 3)
        assert told[-2] == outcomes(live, 2), "what the dead one did not take is told again"
        task.cancel()

    asyncio.run(run())


def test_what_waits_for_the_controller_is_bounded(live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinning, "_MOST_OUTCOMES", 5)
    follower = pinning_of(record_of(live))
    for _ in range(3):
        follower.ended(outcomes(live, 3))
    assert len(follower._outcomes) == 5
