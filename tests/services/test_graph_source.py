"""An order whose pictures start from one: what goes to which stage, and what is asked again."""

from dataclasses import replace

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, ObjectLostError

from components.contract import ImageChannels, Kind
from components.messages import ControlChoice, Source, Tiling
from components.reference import ComponentRef
from services import graph
from services.errors import GivenUpError
from services.graph import GraphSettings
from services.messages import Encoding, LiveModel, Order
from tests.services.test_denoiser import Tally, request
from tests.services.test_graph import Adapter, Stages, VaeEncoder, Walks, decoder_of, gives_none, said_of

MASK = np.eye(8, dtype=np.bool_)


@pytest.fixture
def order(live: LiveModel) -> Order:
    pixels = np.full((1, 64, 64, 3), 7, np.uint8)
    return Order(request(10, n=3), live.pins, Encoding(), source=Source(pixels, MASK))


def test_the_source_is_encoded_once_for_all_pictures_by_the_pinned_version(order: Order) -> None:
    stages = Stages(Walks())

    stages.draw(order)

    assert order.source is not None
    [(pin, pixels, _, hidden)] = stages.vae_encoder.encode.calls
    assert (pin, hidden) == (order.pins[Kind.VAE_ENCODER], None)
    assert pixels is order.source.pixels
    assert len(stages.encode.calls) == 1
    assert [walk.mask is MASK for walk in stages.walks.orders] == [True] * 3
    [texts], [source] = ({id(one) for one in each} for each in zip(*stages.walks.encoded, strict=True))
    assert texts != source


def test_what_a_denoiser_that_sees_the_mask_looks_at_is_encoded_with_the_source(order: Order) -> None:
    stages, hidden = Stages(Walks()), np.eye(64, dtype=np.bool_)
    assert order.source is not None

    stages.draw(replace(order, source=replace(order.source, hidden=hidden)))

    [call] = stages.vae_encoder.encode.calls
    assert call[3] is hidden


def test_the_depth_goes_to_the_denoiser_as_it_is(order: Order) -> None:
    stages, depth = Stages(Walks()), np.zeros((1, 1, 8, 8), np.float32)
    assert order.source is not None

    stages.draw(replace(order, source=replace(order.source, depth=depth)))

    assert [walk.depth is depth for walk in stages.walks.orders] == [True] * 3


def test_a_picture_that_is_drawn_larger_goes_to_the_denoiser_as_it_is(order: Order, live: LiveModel) -> None:
    stages, denoiser = Stages(Walks()), live.contracts[Kind.DENOISER]
    looks = (ImageChannels(source="low_resolution", channels=3),)
    assert order.source is not None

    stages.draw(replace(order, contract=denoiser.model_copy(update={"image_channels": looks})))

    assert stages.vae_encoder.encode.calls == []
    assert [walk.low_resolution is order.source.pixels for walk in stages.walks.orders] == [True] * 3
    assert [source for _, source in stages.walks.encoded] == [None] * 3


def test_both_halves_of_the_vae_take_the_pictures_in_the_tiles_of_the_request(order: Order, live: LiveModel) -> None:
    tiling, candidate = Tiling(side=64, overlap=0.25), decoder_of(live, 2)
    stages = Stages(Walks(), decoded=gives_none())
    tiled = replace(order, request=replace(order.request, tiling=tiling), shadow=candidate)
    drawn = stages.draw(tiled, after=lambda: len(stages.shadowed.calls) == 3)
    assert [call[2] for call in stages.vae_encoder.encode.calls] == [tiling]
    # of each picture, and once more by the candidate
    assert [call[2] for call in stages.decode.calls] == [tiling] * 6
    assert [said_of(picture)["tiling"] for picture in drawn.pictures] == [{"side": 64, "overlap": 0.25}] * 3


def test_without_a_source_the_encoder_is_left_alone(order: Order) -> None:
    stages = Stages(Walks())

    stages.draw(replace(order, source=None))

    assert stages.vae_encoder.encode.calls == []
    assert [source for _, source in stages.walks.encoded] == [None] * 3
    assert [walk.mask for walk in stages.walks.orders] == [None] * 3


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_source_is_encoded_again_where_a_replica_stops_and_given_up_after_two(order: Order, deaths: int) -> None:
    stages = Stages(Walks())
    stages.vae_encoder = VaeEncoder(deaths)
    stages.graph = stages.graph_of(GraphSettings(snapshot_every=4, shadows=1, max_held=16))

    if deaths == 1:
        assert len(stages.draw(order).pictures) == 3
    else:
        with pytest.raises(GivenUpError, match="vae_encoder"):
            stages.draw(order)

    assert len(stages.vae_encoder.encode.calls) == 2


@pytest.mark.parametrize("error", [ActorDiedError(), ObjectLostError("id", None, "stack")])
def test_a_walk_goes_on_elsewhere_from_the_same_source(order: Order, error: Exception) -> None:
    stages = Stages(Walks(5, error=error))

    stages.draw(replace(order, request=order.request.picture(0)))

    first, second = stages.walks.orders
    assert first.mask is second.mask is MASK
    assert second.snapshot.estimates
    lost = isinstance(error, ObjectLostError)
    # what the machine kept is made anew, texts and source
    assert len(stages.vae_encoder.encode.calls) == len(stages.encode.calls) == (2 if lost else 1)
    assert (stages.walks.encoded[0][1] is not stages.walks.encoded[1][1]) == lost


def test_the_bytes_and_phases_of_every_stages_answer_are_counted(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    monkeypatch.setattr(graph, "GraphMetrics", lambda: tally)

    Stages(Walks()).draw(replace(order, request=order.request.picture(0)))

    told = {stage: (pin, size) for stage, pin, size, *_ in tally.told["answered"]}
    assert len(tally.told["answered"]) == len(told) == 4
    assert {stage: pin for stage, (pin, _) in told.items()} == {stage: order.pins[stage] for stage in told}
    # float32, and the picture's bytes
    assert told[Kind.TEXT_ENCODER][1] == 2 * 8 * 6 * 4
    assert told[Kind.VAE_ENCODER][1] > 0
    assert told[Kind.DENOISER][1] == 4 * 8 * 8 * 4
    assert told[Kind.VAE_DECODER][1] == 64 * 64 * 3
    for stage, *_, queued_s, transfer_s in tally.told["answered"]:
        # the denoiser's replica tells what its walks waited for
        assert (queued_s is None) == (stage == Kind.DENOISER)
        assert transfer_s >= 0


EDGES = ComponentRef(name="toy.controlnet.edges", version=1, sha256="a" * 64)
LINES, INK = (ComponentRef(name=f"toy.adapter.{name}", version=1, sha256="b" * 64) for name in ("lines", "ink"))


@pytest.fixture
def held(live: LiveModel) -> Order:
    """An order whose pictures a ControlNet and two adapters hold."""
    pins = (LINES, EDGES, INK)
    choices = tuple(ControlChoice(model=str(pin), scale=number / 4) for number, pin in enumerate(pins))
    pictures = tuple(np.full((1, 64, 64, 3), number, np.uint8) for number in range(3))
    return Order(request(10, n=3, controls=choices), live.pins, Encoding(), beside=pins, controls=pictures)


def test_features_are_made_once_for_all_pictures_and_controlnets_pictures_go_to_the_denoiser(held: Order) -> None:
    stages = Stages(Walks())

    drawn = stages.draw(held)

    assert sorted((str(pin), pixels[0, 0, 0, 0]) for pin, pixels in stages.adapter.features.calls) == [
        (str(INK), 2),
        (str(LINES), 0),
    ]
    for walk, features in zip(stages.walks.orders, stages.walks.features, strict=True):
        [by_net] = walk.controls
        assert (by_net.pin, by_net.how.scale, by_net.pixels is held.controls[1]) == (EDGES, 0.25, True)
        assert [how.scale for how in walk.features] == [0.0, 0.5]
        # by reference, in the order of the request
        assert features == stages.walks.features[0]
        assert len(features) == 2
    told = said_of(drawn.pictures[0])
    assert [one["name"] for one in told["beside"]] == [pin.name for pin in (LINES, EDGES, INK)]
    assert [one["width"] for one in told["control_pictures"]] == [64] * 3


@pytest.mark.parametrize("deaths", [1, 2])
def test_features_are_made_again_where_a_replica_stops_and_given_up_after_two(held: Order, deaths: int) -> None:
    stages = Stages(Walks())
    stages.adapter = Adapter(deaths)
    stages.graph = stages.graph_of(GraphSettings(snapshot_every=4, shadows=1, max_held=16))
    alone = replace(held, request=replace(held.request, controls=held.request.controls[:1]), controls=held.controls[:1])

    if deaths == 1:
        assert len(stages.draw(alone).pictures) == 3
    else:
        with pytest.raises(GivenUpError, match="adapter"):
            stages.draw(alone)

    assert len(stages.adapter.features.calls) == 2
