"""The graph on stages that break: what is asked again, with what, and when it is given up."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest
from PIL import Image
from ray.exceptions import ActorDiedError, ObjectLostError

from components.contract import Kind
from components.messages import EncodedText, FloatArray, LatentDistribution, Pixels, Snapshot, Tiling
from components.reference import ComponentRef
from services.encoding import METADATA_KEY
from services.errors import (
    DeadlineExceededError,
    GivenUpError,
    LatentsNotKeptError,
    NonFiniteImageError,
    OverloadedError,
)
from services.graph import GraphDeployment, GraphSettings
from services.latents.records import CompareOrder, DecodeOrder, KeptLatents
from services.messages import (
    Drawn,
    Encoding,
    LiveModel,
    Order,
    Picture,
    Progress,
    ShadowResult,
    Terms,
    WalkOrder,
    WalkReport,
    Worked,
)
from services.retries import MOST_LOST
from services.timelines.spans import Span
from tests.services.responses import Response
from tests.services.test_denoiser import request

LATENTS = np.zeros((1, 4, 8, 8), np.float32)
DECODED = Span("decode", 0.0, 0.25)
ENCODED = Span("encode", 0.0, 0.125)
WALKED = Span("walk", 0.0, 1.0, parts=(Span("queue", 0.0, 0.0), Span("run", 0.0, 1.0)))
PICTURE = Worked(np.zeros((64, 64, 3), np.uint8), DECODED)
TEXTS = Worked(EncodedText({"hidden_states": np.zeros((2, 8, 6), np.float32)}, (True, False), (6, 2)), ENCODED)


class Unary:
    """A handle's method whose first calls meet a replica that dies; an `answer` that is a function is asked."""

    def __init__(self, answer: Any, deaths: int = 0) -> None:
        self._answer = answer
        self.deaths = deaths
        self.calls: list[tuple[Any, ...]] = []

    def remote(self, *arguments: Any) -> Response:
        self.calls.append(arguments)
        dies = len(self.calls) <= self.deaths

        async def work() -> Any:
            if dies:
                raise ActorDiedError
            return self._answer(*arguments) if callable(self._answer) else self._answer

        return Response(work)


WAITS = -1


class Walks:
    """The denoiser's handle: walk number k of a request dies at evaluation `deaths[k]`, or while it waits; others end.

    A walk that shares no run tells, as a replica does, before each evaluation that it is at risk.
    """

    def __init__(self, *deaths: int, total: int = 10, error: Exception | None = None) -> None:
        self._deaths = deaths
        self._total = total
        self._error = ActorDiedError() if error is None else error
        self.orders: list[WalkOrder] = []
        self.encoded: list[tuple[object, object]] = []
        self.thirds: list[object] = []
        self.features: list[tuple[object, ...]] = []
        self.image_prompts: list[object] = []
        self.cancelled = 0
        self.walk = self

    def options(self, *, stream: bool) -> Self:
        assert stream
        return self

    def remote(
        self, order: WalkOrder, texts: object, source: object, image_prompts: object, *features: object, third: object
    ) -> "Reports":
        number = len(self.orders)
        self.orders.append(order)
        self.image_prompts.append(image_prompts)
        self.features.append(features)
        self.encoded.append((texts, source))
        self.thirds.append(third)
        dies_at = self._deaths[number] if number < len(self._deaths) else None
        return Reports(self, self._reports(order, dies_at))

    async def _reports(self, order: WalkOrder, dies_at: int | None) -> AsyncIterator[WalkReport]:
        at = len(order.snapshot.estimates)
        due = at + 1
        unreported: list[FloatArray] = []
        if order.alone_until:
            yield WalkReport(at, self._total)
        if dies_at == WAITS:
            raise self._error
        while at < self._total:
            if at < order.alone_until:
                yield WalkReport(at, self._total, at_risk=True)
            if at == dies_at:
                raise self._error
            await asyncio.sleep(0)
            at += 1
            unreported.append(np.full((1, 4, 8, 8), at, np.float32))
            if at == self._total:
                yield WalkReport(at, at, latents=np.zeros((1, 4, 8, 8), np.float32), span=WALKED)
            elif at == due or at <= order.alone_until:
                yield WalkReport(at, self._total, Snapshot(tuple(unreported)))
                unreported, due = [], at + order.report_every


class Reports:
    def __init__(self, walks: Walks, reports: AsyncIterator[WalkReport]) -> None:
        self._walks = walks
        self._reports = reports
        self.taken: asyncio.Event | None = None

    def __aiter__(self) -> AsyncIterator[WalkReport]:
        return self._reports

    async def _fetch_future_result_async(self) -> None:
        """A replica has taken the walk at once, where it is not told when."""
        if self.taken is not None:
            await self.taken.wait()

    def cancel(self) -> None:
        self._walks.cancelled += 1


class VaeEncoder:
    """The VAE encoder's handle."""

    def __init__(self, deaths: int = 0) -> None:
        self.encode = Unary(Worked(LatentDistribution(LATENTS, LATENTS), ENCODED), deaths)


class ThirdTextEncoder:
    """The third text encoder's handle, which reads the end of the prompt too."""

    def __init__(self, deaths: int = 0) -> None:
        made = EncodedText({"third_hidden_states": np.zeros((2, 4, 6), np.float32)}, (False, False), (7, 2))
        self.encode = Unary(Worked(made, ENCODED), deaths)


class Adapter:
    """The adapters' handle."""

    def __init__(self, deaths: int = 0) -> None:
        self.features = Unary(Worked({"adapter_0": LATENTS}, ENCODED), deaths)


class ImageEncoder:
    """The image encoder's handle."""

    def __init__(self) -> None:
        self.tokens = Unary(Worked({"image_prompt": LATENTS, "no_image_prompt": LATENTS}, ENCODED))


class Stages:
    def __init__(
        self, walks: Walks, encoder_deaths: int = 0, decoder_deaths: int = 0, decoded: Any = None, kept: Any = "an-id"
    ) -> None:
        self.walks = walks
        self.encode = Unary(TEXTS, encoder_deaths)
        self.vae_encoder = VaeEncoder()
        self.third_text_encoder = ThirdTextEncoder()
        self.adapter = Adapter()
        self.image_encoder = ImageEncoder()
        self.decode = Unary(PICTURE if decoded is None else decoded, decoder_deaths)
        self.keep = Unary(kept)
        self.shadowed = Unary(None)
        self.graph = self.graph_of(GraphSettings(snapshot_every=4, shadows=1, max_held=16))

    def graph_of(self, settings: GraphSettings) -> GraphDeployment:
        beside = (self.vae_encoder, self.adapter, self.image_encoder)
        return GraphDeployment(self, self.third_text_encoder, self.walks, self, *beside, self, self, settings)

    def draw(self, order: Order, after: Callable[[], bool] = lambda: True) -> Drawn:
        """What the graph draws; the event loop goes on until `after` is true."""

        async def drawn() -> Drawn:
            made = await self.graph.draw(order)
            while not after():
                await asyncio.sleep(0.01)
            return made

        return asyncio.run(drawn())


@pytest.fixture
def order(live: LiveModel) -> Order:
    return Order(request(10), live.pins, Encoding())


def test_an_order_goes_once_through_every_stage(order: Order) -> None:
    stages = Stages(Walks())
    drawn = stages.draw(order)
    assert (len(drawn.pictures), drawn.prompt_truncated, drawn.negative_prompt_truncated) == (1, True, False)
    assert drawn.text_tokens == 6 + 2
    assert (len(stages.encode.calls), len(stages.walks.orders), len(stages.decode.calls)) == (1, 1, 1)
    assert stages.walks.cancelled == 0


@pytest.mark.parametrize("dies_at", range(1, 10))
def test_a_walk_goes_on_from_at_most_four_evaluations_back(order: Order, dies_at: int) -> None:
    stages = Stages(Walks(dies_at))
    stages.draw(order)
    first, second = stages.walks.orders
    assert first.snapshot.estimates == ()
    kept = len(second.snapshot.estimates)
    assert dies_at - 4 <= kept <= dies_at
    # what is kept is the beginning, in its order
    assert [estimate.flat[0] for estimate in second.snapshot.estimates] == list(range(1, kept + 1))
    assert (first.order, first.request) == (second.order, second.request)


@pytest.mark.parametrize("fatal", range(10))
def test_a_walk_that_stops_replicas_is_given_up_after_two(order: Order, fatal: int) -> None:
    stages = Stages(Walks(*(fatal,) * 9))
    with pytest.raises(GivenUpError, match="2 replicas of the denoiser stopped"):
        stages.draw(order)
    assert len(stages.walks.orders) == 2
    assert len(stages.decode.calls) == 0


@pytest.mark.parametrize("deaths", [(0, WAITS, WAITS, WAITS), (WAITS, WAITS, WAITS), (7, WAITS, WAITS)])
def test_a_walk_that_waits_while_others_stop_replicas_is_drawn(order: Order, deaths: tuple[int, ...]) -> None:
    stages = Stages(Walks(*deaths))
    assert len(stages.draw(order).pictures) == 1
    assert len(stages.walks.orders) == len(deaths) + 1


def test_a_walk_that_gets_past_the_place_is_cleared(order: Order) -> None:
    stages = Stages(Walks(2, 20, 40, total=60))
    assert len(stages.draw(order).pictures) == 1
    stages = Stages(Walks(*range(2, 1000, 20), total=1000))
    with pytest.raises(GivenUpError, match="16 replicas"):
        stages.draw(order)


def test_a_walk_that_goes_on_is_admitted_and_kept_apart(order: Order) -> None:
    stages = Stages(Walks(6))
    stages.draw(order)
    first, second = stages.walks.orders
    assert (first.admitted, first.alone_until) == (False, 0)
    # told of 5, and of as many more as may have been on their way
    assert (second.admitted, second.alone_until) == (True, 5 + 4 + 2)


def test_a_stream_that_ends_too_early_is_a_loss(order: Order) -> None:
    stages = Stages(Walks(total=0))
    with pytest.raises(GivenUpError):
        stages.draw(order)
    assert len(stages.walks.orders) == MOST_LOST


def test_texts_that_went_with_their_machine_are_encoded_again(order: Order) -> None:
    stages = Stages(Walks(3, error=ObjectLostError("0" * 56, None, "")))
    assert len(stages.draw(order).pictures) == 1
    assert len(stages.encode.calls) == 2


def test_a_picture_past_its_deadline_is_not_decoded(live: LiveModel) -> None:
    stages = Stages(Walks())
    with pytest.raises(DeadlineExceededError, match="deadline_s=1e-09: has passed after all steps"):
        stages.draw(Order(request(10), live.pins, Encoding(), Terms(deadline_s=1e-9)))
    assert len(stages.decode.calls) == 0


class Untaken(Walks):
    """The denoiser's handle while no replica can take a walk."""

    def remote(
        self, order: WalkOrder, texts: object, source: object, image_prompts: object, *features: object, third: object
    ) -> Reports:
        reports = super().remote(order, texts, source, image_prompts, *features, third=third)
        reports.taken = asyncio.Event()
        return reports


def test_a_walk_that_no_replica_takes_ends_with_its_deadline(live: LiveModel) -> None:
    stages = Stages(Untaken())
    with pytest.raises(DeadlineExceededError, match="deadline_s=0.05: has passed before a replica could take it"):
        stages.draw(Order(request(10, n=2), live.pins, Encoding(), Terms(deadline_s=0.05)))
    assert (len(stages.walks.orders), len(stages.decode.calls)) == (2, 0)
    assert stages.walks.cancelled >= 2


def test_the_text_encoder_is_told_how_the_texts_weigh_and_which_layer_to_take(order: Order) -> None:
    stages = Stages(Walks())
    asked = replace(order.request, weighting="compel", clip_skip=2, prompt_chunks=3)
    asyncio.run(stages.graph.draw(replace(order, request=asked)))
    [call] = stages.encode.calls
    assert call == (order.pins[Kind.TEXT_ENCODER], asked.texts, 3, "compel", 2, ())


def test_a_third_text_encoder_is_asked_where_an_order_is_pinned_to_one(order: Order) -> None:
    stages = Stages(Walks(3, error=ObjectLostError("0" * 56, None, "")))
    asked = replace(order.request, weighting="compel", clip_skip=2, prompt_chunks=3)
    stages.draw(replace(order, request=asked))
    assert stages.third_text_encoder.encode.calls == []
    assert stages.walks.thirds == [None, None]

    stages = Stages(Walks(3, error=ObjectLostError("0" * 56, None, "")))
    pin = ComponentRef(name="toy.third_text_encoder", version=3, sha256="3" * 64)
    pinned = replace(order, request=asked, pins={**order.pins, Kind.THIRD_TEXT_ENCODER: pin})
    drawn = stages.draw(pinned)
    # its tokens are the same text's once more
    assert (drawn.prompt_truncated, drawn.text_tokens) == (True, 6 + 2)
    assert stages.third_text_encoder.encode.calls == [(pin, asked.texts, 1, "compel", 1)] * 2
    assert all(third is not None for third in stages.walks.thirds)
    assert len(stages.walks.thirds) == 2
    [picture] = drawn.pictures
    assert said_of(picture)["components"]["third_text_encoder"] == pin.model_dump()


@pytest.mark.parametrize("stage", ["encoder_deaths", "decoder_deaths"])
def test_encoder_and_decoder_are_asked_again_once(order: Order, stage: str) -> None:
    stages = Stages(Walks(), **{stage: 1})
    assert len(stages.draw(order).pictures) == 1
    assert len(stages.walks.orders) == 1
    with pytest.raises(GivenUpError):
        Stages(Walks(), **{stage: 2}).draw(order)


def test_what_was_refused_is_not_asked_again(order: Order) -> None:
    stages = Stages(Walks(0, error=OverloadedError("too much", 7)))
    with pytest.raises(OverloadedError):
        stages.draw(order)
    assert len(stages.walks.orders) == 1


def test_one_picture_that_fails_cancels_the_others(live: LiveModel) -> None:
    stages = Stages(Walks(0, error=OverloadedError("too much", 7)))
    with pytest.raises(OverloadedError):
        stages.draw(Order(request(10, n=3), live.pins, Encoding()))
    assert len({walk.order for walk in stages.walks.orders}) == 1
    assert stages.walks.cancelled == len(stages.walks.orders)


def test_a_deadline_counts_down_on_the_way(live: LiveModel) -> None:
    stages = Stages(Walks(3))
    stages.draw(Order(request(10), live.pins, Encoding(), Terms("me", "high", 100.0)))
    first, second = stages.walks.orders
    assert first.terms == second.terms == Terms("me", "high", 100.0)
    assert 0 <= first.waited_s <= second.waited_s


def test_who_watches_hears_of_every_step_and_then_gets_the_pictures(live: LiveModel) -> None:
    stages = Stages(Walks(5))

    async def watch(order: Order) -> list[Any]:
        return [news async for news in stages.graph.watch(order, preview_every=2)]

    *steps, drawn = asyncio.run(watch(Order(request(10), live.pins, Encoding())))
    assert [news.step for news in steps if isinstance(news, Progress)] == list(range(1, 11))
    assert isinstance(drawn, Drawn)
    assert {(walk.report_every, walk.preview_every) for walk in stages.walks.orders} == {(1, 2)}


def test_who_stops_watching_ends_the_walk(live: LiveModel) -> None:
    stages = Stages(Walks(total=10**9))

    async def watch(order: Order) -> None:
        news = stages.graph.watch(order)
        await anext(news)
        await news.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(watch(Order(request(10), live.pins, Encoding())))
    assert stages.walks.cancelled == 1


def decoder_of(live: LiveModel, version: int) -> ComponentRef:
    return live.pins[Kind.VAE_DECODER].model_copy(update={"version": version})


def said_of(picture: Picture) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(Image.open(io.BytesIO(picture.data)).info[METADATA_KEY])
    return said


def gives_none(*bad: ComponentRef, of: Callable[[], bool] = lambda: True) -> Callable[..., Worked[Pixels]]:
    """A decoder some of whose versions give no picture, while `of` is true; others a colour of their own."""

    def decode(pin: ComponentRef, _latents: FloatArray, _tiling: Tiling | None) -> Worked[Pixels]:
        if pin in bad and of():
            raise NonFiniteImageError(f"{pin} gave pixels that are not finite", pin)
        return Worked(np.full((64, 64, 3), pin.version, np.uint8), DECODED)

    return decode


def test_a_picture_says_which_version_made_it(live: LiveModel, order: Order) -> None:
    pin, fallback = live.pins[Kind.VAE_DECODER], decoder_of(live, 9)
    [picture] = Stages(Walks(), decoded=gives_none()).draw(replace(order, fallback=fallback)).pictures
    assert picture.decoder == pin
    assert said_of(picture)["fallback_for"] is None

    stages = Stages(Walks(), decoded=gives_none(pin))
    [picture] = stages.draw(replace(order, fallback=fallback)).pictures
    assert picture.decoder == fallback
    said = said_of(picture)
    assert (said["components"]["vae_decoder"], said["fallback_for"]) == (fallback.model_dump(), pin.model_dump())
    assert Image.open(io.BytesIO(picture.data)).getpixel((0, 0)) == (9, 9, 9)


def test_only_the_picture_that_is_none_is_decoded_again(live: LiveModel) -> None:
    pin, fallback = live.pins[Kind.VAE_DECODER], decoder_of(live, 9)
    bad = iter([False, True, False])
    stages = Stages(Walks(), decoded=gives_none(pin, of=lambda: next(bad)))
    drawn = stages.draw(Order(request(10, n=3), live.pins, Encoding(), fallback=fallback))
    assert [picture.decoder for picture in drawn.pictures] == [pin, fallback, pin]
    assert len(stages.decode.calls) == 4
    assert len(stages.walks.orders) == 3


def test_without_a_fallback_there_is_no_picture(live: LiveModel, order: Order) -> None:
    stages = Stages(Walks(), decoded=gives_none(live.pins[Kind.VAE_DECODER]))
    with pytest.raises(NonFiniteImageError):
        stages.draw(order)


def test_a_shadow_follows_the_answer(live: LiveModel) -> None:
    candidate = decoder_of(live, 2)
    stages = Stages(Walks(), decoded=gives_none())
    order = Order(request(10, n=2), live.pins, Encoding(), shadow=candidate)
    alone = Stages(Walks(), decoded=gives_none()).draw(replace(order, shadow=None))
    drawn = stages.draw(order, after=lambda: len(stages.shadowed.calls) == 2)
    assert [picture.data for picture in drawn.pictures] == [picture.data for picture in alone.pictures]
    assert [call[0].version for call in stages.decode.calls] == [1, 1, 2, 2]
    for (result,) in stages.shadowed.calls:
        assert isinstance(result, ShadowResult)
        assert (result.pin, result.live) == (candidate, live.pins[Kind.VAE_DECODER])
        assert result.psnr_db == pytest.approx(10 * np.log10(255**2))


def test_a_shadow_that_fails_is_not_the_answers_affair(live: LiveModel, order: Order) -> None:
    candidate = decoder_of(live, 2)
    stages = Stages(Walks(), decoded=gives_none(candidate))
    assert len(stages.draw(replace(order, shadow=candidate), after=lambda: bool(stages.shadowed.calls)).pictures) == 1
    [(result,)] = stages.shadowed.calls
    assert (result.finite, result.failed) == (False, "toy.vae_decoder/2 gave pixels that are not finite")


def test_latents_are_kept_for_whoever_asks(live: LiveModel) -> None:
    stages = Stages(Walks())
    contract = live.contracts[Kind.DENOISER]
    order = Order(request(10, n=2), live.pins, Encoding(), Terms("me"), store_latents=True, contract=contract)
    assert [picture.latents for picture in stages.draw(order).pictures] == ["an-id", "an-id"]
    for image, (kept, tenant) in enumerate(stages.keep.calls):
        assert isinstance(kept, KeptLatents)
        assert (kept.request, kept.pins, kept.contract) == (order.request.picture(image), live.pins, contract)
        assert (kept.prompt_truncated, kept.negative_prompt_truncated, tenant) == (True, False, "me")
        np.testing.assert_array_equal(kept.latents, np.zeros((1, 4, 8, 8), np.float32))
    stages = Stages(Walks())
    stages.draw(replace(order, terms=Terms("me", owner="another")))
    assert [owner for _kept, owner in stages.keep.calls] == ["another", "another"]
    stages = Stages(Walks())
    assert stages.draw(replace(order, store_latents=False)).pictures[0].latents is None
    assert stages.keep.calls == []
    with pytest.raises(ValueError, match="contract"):
        replace(order, contract=None)


@pytest.mark.parametrize("error", [LatentsNotKeptError("the disk does not take latents: No space left"), KeyError("a")])
def test_latents_that_cannot_be_kept_cost_no_picture(
    live: LiveModel, error: Exception, serve_log: pytest.LogCaptureFixture
) -> None:
    def refuse(*_arguments: Any) -> str:
        raise error

    stages = Stages(Walks(), kept=refuse)
    contract = live.contracts[Kind.DENOISER]
    drawn = stages.draw(Order(request(10), live.pins, Encoding(), store_latents=True, contract=contract))
    assert [picture.latents for picture in drawn.pictures] == [None]
    told = error.message if isinstance(error, LatentsNotKeptError) else "KeyError"
    assert serve_log.messages == [f"latents are not kept: {told}"]


@pytest.fixture
def kept(live: LiveModel) -> KeptLatents:
    latents = np.zeros((1, 4, 8, 8), np.float32)
    contract = live.contracts[Kind.DENOISER]
    return KeptLatents(latents=latents, request=request(10), pins=live.pins, contract=contract)


@pytest.mark.parametrize("write_prompts", [True, False])
def test_kept_latents_give_the_same_picture_by_the_same_version(
    live: LiveModel, order: Order, kept: KeptLatents, write_prompts: bool
) -> None:
    stages = Stages(Walks(), decoded=gives_none())
    stages.graph = stages.graph_of(GraphSettings(snapshot_every=4, shadows=1, max_held=16, write_prompts=write_prompts))
    [first] = stages.draw(order).pictures
    pin = live.pins[Kind.VAE_DECODER]
    again = DecodeOrder(kept=kept, decoder=pin, fallback=None, encoding=Encoding())
    same = asyncio.run(stages.graph.decode(again))
    pixels = [np.asarray(Image.open(io.BytesIO(one.data))) for one in (same, first)]
    np.testing.assert_array_equal(pixels[0], pixels[1])
    # with the prompts, which are not kept, its file differs by them alone
    assert said_of(same) == {**said_of(first), "prompt": None, "negative_prompt": None}
    assert said_of(first)["prompt"] == (order.request.prompt if write_prompts else None)
    assert (same.data == first.data) == (not write_prompts)
    tiling = Tiling(side=64, overlap=0.25)
    tiled = replace(kept, request=replace(kept.request, tiling=tiling))
    other = asyncio.run(stages.graph.decode(replace(again, kept=tiled, decoder=decoder_of(live, 5))))
    assert [call[2] for call in stages.decode.calls] == [None, None, tiling]
    assert said_of(other)["components"]["vae_decoder"] == decoder_of(live, 5).model_dump()
    assert (other.seed, other.subseed, said_of(other)["fallback_for"]) == (5, None, None)


def test_kept_latents_have_a_fallback_too(live: LiveModel, kept: KeptLatents) -> None:
    candidate, fallback = decoder_of(live, 2), decoder_of(live, 9)
    stages = Stages(Walks(), decoded=gives_none(candidate))
    order = DecodeOrder(kept=kept, decoder=candidate, fallback=fallback, encoding=Encoding())
    picture = asyncio.run(stages.graph.decode(order))
    assert (picture.decoder, said_of(picture)["fallback_for"]) == (fallback, candidate.model_dump())


def test_two_versions_are_compared(live: LiveModel, kept: KeptLatents) -> None:
    a, b = live.pins[Kind.VAE_DECODER], decoder_of(live, 3)
    stages = Stages(Walks(), decoded=gives_none(decoder_of(live, 4)))
    order = CompareOrder(kept=kept, decoders=(a, b), files=False)
    compared = asyncio.run(stages.graph.compare(order))
    assert compared.psnr_db == pytest.approx(10 * np.log10(255**2 / 4))
    assert (compared.max_difference, compared.factor) == (2, 64)
    [file] = compared.files
    said = json.loads(Image.open(io.BytesIO(file)).info[METADATA_KEY])
    assert said["compared"]["vae_decoders"] == [a.model_dump(), b.model_dump()]
    assert (said["compared"]["max_difference"], said["seed"]) == (2, 5)
    assert "vae_decoder" not in said["components"]

    files = asyncio.run(stages.graph.compare(replace(order, files=True))).files
    for pin, file in zip((a, b), files, strict=True):
        picture = Image.open(io.BytesIO(file))
        assert picture.getpixel((0, 0)) == (pin.version,) * 3
        assert json.loads(picture.info[METADATA_KEY])["components"]["vae_decoder"] == pin.model_dump()

    with pytest.raises(NonFiniteImageError, match="^toy.vae_decoder/4 gave pixels that are not finite$"):
        asyncio.run(stages.graph.compare(replace(order, decoders=(a, decoder_of(live, 4)))))
