"""Pictures that are none: which version is asked next, who is blamed, what the caller hears and what the log says."""

import asyncio
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError

from components.contract import Kind
from components.messages import FloatArray, Pixels, Tiling
from components.reference import ComponentRef
from runtime.session import Session
from services.deadlines import Deadline
from services.decoding import Made, PictureDecoder
from services.errors import GivenUpError, NonFiniteImageError, ServingError, StartError
from services.messages import LiveModel, Worked
from services.stage_host import StageSettings
from services.timelines.spans import Span
from services.vae_decoder import VaeDecoderDeployment
from tests.services.conftest import FakeRollout
from tests.services.responses import Response
from tests.services.test_denoiser import Tally

LATENTS = np.zeros((1, 4, 8, 8), np.float32)
PLACE = "/root/a/place"


def decoder_ref(version: int) -> ComponentRef:
    return ComponentRef(name="toy.vae_decoder", version=version, sha256=f"{version:064x}")


PIN, FALLBACK = decoder_ref(1), decoder_ref(7)


def no_picture(pin: ComponentRef) -> NonFiniteImageError:
    return NonFiniteImageError(f"{pin} gave pixels that are not finite", pin)


class Decoders:
    """The deployment's handle: each version gives its picture or raises, and takes as many seconds as its number."""

    def __init__(self, failing: Mapping[ComponentRef, Exception]) -> None:
        self._failing = failing
        self.asked: list[ComponentRef] = []
        self.tilings: list[Tiling | None] = []
        self.decode = self
        self.present_s: float | None = None
        self.away_s = 0.0

    def remote(self, pin: ComponentRef, _latents: FloatArray, tiling: Tiling | None) -> Response:
        self.asked.append(pin)
        self.tilings.append(tiling)
        return Response(partial(self._answer, pin))

    async def _answer(self, pin: ComponentRef) -> Worked[Pixels]:
        if pin in self._failing:
            raise self._failing[pin]
        seconds = float(pin.version)
        await asyncio.sleep(self.away_s)
        present_s = seconds if self.present_s is None else self.present_s
        return Worked(np.full((64, 64, 3), pin.version, np.uint8), Span("decode", 0.0, seconds), present_s)


class House:
    def __init__(self, live: LiveModel, failing: Mapping[ComponentRef, Exception]) -> None:
        self.pins = {**live.pins, Kind.VAE_DECODER: PIN}
        self.handle = Decoders(failing)
        self.tally = Tally()
        self._decoder = PictureDecoder(self.handle, self.tally)  # type: ignore[arg-type]

    def picture(self, fallback: ComponentRef | None = FALLBACK, latents: FloatArray = LATENTS) -> Made:
        return asyncio.run(self._decoder.picture(latents, None, self.pins, fallback, Deadline()))

    @property
    def counted(self) -> list[tuple[Any, ...]]:
        return self.tally.told.get("no_picture", [])


def test_a_picture_costs_one_question(live: LiveModel) -> None:
    house = House(live, {})
    made = house.picture()
    assert (made.decoder, made.seconds, made.pixels.max()) == (PIN, 1.0, 1)
    assert (house.handle.asked, house.counted) == ([PIN], [])


def test_the_fallback_makes_it_where_the_pinned_one_does_not(
    live: LiveModel, serve_log: pytest.LogCaptureFixture
) -> None:
    house = House(live, {PIN: no_picture(PIN)})
    made = house.picture()
    assert (made.decoder, made.pixels.max()) == (FALLBACK, 7)
    assert house.handle.asked == [PIN, FALLBACK]
    assert house.counted == [(Kind.VAE_DECODER, PIN)]
    assert serve_log.messages == [
        "toy.vae_decoder/1 gave pixels that are not finite; toy.vae_decoder/7 decodes it again"
    ]


@pytest.mark.parametrize("fallback", [None, PIN])
def test_without_another_version_there_is_no_picture(live: LiveModel, fallback: ComponentRef | None) -> None:
    house = House(live, {PIN: no_picture(PIN)})
    with pytest.raises(NonFiniteImageError, match="toy.vae_decoder/1 gave .*; there is no other version") as raised:
        house.picture(fallback)
    assert (raised.value.code, raised.value.status, raised.value.pin) == ("non_finite_image", 500, PIN)
    assert (house.handle.asked, house.counted) == ([PIN], [(Kind.VAE_DECODER, PIN)])


def test_both_are_blamed_where_both_give_none(live: LiveModel) -> None:
    house = House(live, {PIN: no_picture(PIN), FALLBACK: no_picture(FALLBACK)})
    with pytest.raises(NonFiniteImageError, match="toy.vae_decoder/1 gave .*; toy.vae_decoder/7 gave .*") as raised:
        house.picture()
    assert raised.value.pin == PIN
    assert house.counted == [(Kind.VAE_DECODER, PIN), (Kind.VAE_DECODER, FALLBACK)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_latents_that_are_not_finite_are_the_denoisers(
    live: LiveModel, value: float, serve_log: pytest.LogCaptureFixture
) -> None:
    latents = LATENTS.copy()
    latents[0, 1, 2, 3] = value
    house = House(live, {PIN: no_picture(PIN), FALLBACK: no_picture(FALLBACK)})
    with pytest.raises(NonFiniteImageError) as raised:
        house.picture(latents=latents)
    assert raised.value.pin == live.pins[Kind.DENOISER]
    assert "the latents of toy.denoiser/1 were not finite already" in raised.value.message
    assert house.counted == [(Kind.DENOISER, live.pins[Kind.DENOISER])]
    assert house.handle.asked == [PIN], "no other version makes more of them"
    assert serve_log.messages == [raised.value.message]


@pytest.mark.parametrize(
    "error", [StartError(f"{FALLBACK}: no file in {PLACE}"), ServingError(f"{FALLBACK}: does not fit; {PLACE}")]
)
def test_a_fallback_that_cannot_decode_is_for_the_log(
    live: LiveModel, error: ServingError, serve_log: pytest.LogCaptureFixture
) -> None:
    house = House(live, {PIN: no_picture(PIN), FALLBACK: error})
    with pytest.raises(NonFiniteImageError, match="toy.vae_decoder/7 could not decode it again") as raised:
        house.picture()
    assert PLACE not in raised.value.message
    assert PLACE in serve_log.text


def test_what_else_goes_wrong_is_told_as_it_is(live: LiveModel) -> None:
    for error in (StartError("not to be had"), ServingError("vae_decoder: something went wrong")):
        house = House(live, {PIN: error})
        with pytest.raises(type(error), match=error.message):
            house.picture()
        assert house.handle.asked == [PIN]
    house = House(live, {PIN: no_picture(PIN), FALLBACK: ActorDiedError()})
    with pytest.raises(GivenUpError):
        house.picture()
    assert house.handle.asked == [PIN, FALLBACK, FALLBACK]


def test_the_error_survives_the_way_between_processes() -> None:
    copy = pickle.loads(pickle.dumps(no_picture(PIN)))
    assert (copy.message, copy.pin, copy.param, str(copy)) == (f"{no_picture(PIN)}", PIN, None, f"{no_picture(PIN)}")


@pytest.mark.parametrize("make", [lambda: no_picture(PIN), lambda: StartError("gone")])
def test_an_error_from_a_replica_keeps_its_parts(make: Callable[[], ServingError]) -> None:
    """Ray hands over a class made of its own and the error's, whose text is a whole traceback."""
    from ray.exceptions import RayTaskError

    error = make()
    across: Any = RayTaskError("decode", "a traceback", error).as_instanceof_cause()
    assert isinstance(across, type(error))
    assert across.message == error.message


def test_latents_that_give_no_picture_leave_the_replica_alone(
    published: tuple[LiveModel, StageSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, settings = published
    pin = live.pins[Kind.VAE_DECODER]
    sound = np.random.default_rng(0).standard_normal((1, 4, 8, 8), np.float32)
    bad = sound.copy()
    bad[0, 0, 0, 0] = np.nan

    async def scenario() -> None:
        replica = VaeDecoderDeployment.__new__(VaeDecoderDeployment)
        await replica.__init__(FakeRollout(live), settings)  # type: ignore[misc]
        before = await replica.decode(pin, sound)
        many = [bad, sound, bad, bad, bad, sound]
        results = await asyncio.gather(*(replica.decode(pin, one) for one in many), return_exceptions=True)
        for one, result in zip(many, results, strict=True):
            if one is bad:
                assert isinstance(result, NonFiniteImageError)
                assert (result.message, result.pin) == (f"{pin} gave pixels that are not finite", pin)
            else:
                assert isinstance(result, Worked)
                np.testing.assert_array_equal(result.made, before.made)
                assert (result.span.stage, result.span.component) == (Kind.VAE_DECODER, pin)
                assert 0 < result.span.seconds < result.present_s
        # no probe is needed, for no run failed
        monkeypatch.setattr(Session, "run", lambda *_: pytest.fail("the replica was suspected"))
        await replica.check_health()
        monkeypatch.setattr(Session, "run", lambda *_: {"pixels": np.full((1, 3, 64, 64), 7, np.float32)})
        with pytest.raises(NonFiniteImageError, match="gave one colour everywhere"):
            await replica.decode(pin, sound)

    asyncio.run(scenario())


def test_each_call_tells_its_phases_and_bytes(live: LiveModel) -> None:
    house = House(live, {PIN: no_picture(PIN)})
    house.picture()
    [(*what, queued_s, transfer_s)] = house.tally.told["answered"]
    assert what == ["vae_decoder", FALLBACK, 64 * 64 * 3]
    assert queued_s >= 0
    # the replica says that the call was there for longer than it took altogether
    assert transfer_s == 0


def test_what_the_replica_did_not_have_the_call_for_is_the_way_there_and_back(live: LiveModel) -> None:
    house = House(live, {})
    house.handle.present_s, house.handle.away_s = 0.0, 0.02
    house.picture()
    [(*_, transfer_s)] = house.tally.told["answered"]
    assert transfer_s >= 0.02
