"""How a request ended, and which of its versions that is said of."""

from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from components.contract import Kind
from components.reference import ComponentRef
from pipeline.errors import RequestError
from services.errors import (
    DeadlineExceededError,
    FieldError,
    GivenUpError,
    NonFiniteImageError,
    OverloadedError,
    ServingError,
    StartError,
    UnavailableError,
)
from services.messages import Drawn, Encoding, LiveModel, Order, Outcome, Picture
from services.outcomes import outcomes_of

DRAWN_BY = (Kind.TEXT_ENCODER, Kind.DENOISER, Kind.VAE_DECODER)


@pytest.fixture
def order(live: LiveModel) -> Order:
    request: Any = None
    return Order(request, live.pins, Encoding())


def drawn(*decoders: ComponentRef | None) -> Drawn:
    return Drawn(tuple(Picture(b"", 0, decoder=decoder) for decoder in decoders), False, False)


def test_what_went_well_is_told_of_every_version_that_took_part(order: Order) -> None:
    decoder = order.pins[Kind.VAE_DECODER]
    well = [Outcome(order.pins[kind]) for kind in DRAWN_BY]
    assert outcomes_of(order, drawn(None, decoder)) == well


def test_where_the_fallback_made_a_picture_the_pinned_decoder_did_not(order: Order) -> None:
    decoder = order.pins[Kind.VAE_DECODER]
    other = decoder.model_copy(update={"version": 7})
    found = outcomes_of(order, drawn(decoder, other))
    assert [(one.pin.name, one.error, one.non_finite) for one in found] == [
        ("toy.text_encoder", False, False),
        ("toy.denoiser", False, False),
        ("toy.vae_decoder", False, True),
    ]


@pytest.mark.parametrize("at_fault", [Kind.DENOISER, Kind.VAE_DECODER])
def test_no_picture_is_the_fault_of_one(order: Order, at_fault: Kind) -> None:
    error = NonFiniteImageError("gave NaN", order.pins[at_fault])
    for end in (error, RayTaskError("decode", "", error).as_instanceof_cause()):
        found = {one.pin: (one.error, one.non_finite) for one in outcomes_of(order, end)}
        assert found == {order.pins[kind]: (kind == at_fault, kind == at_fault) for kind in DRAWN_BY}


@pytest.mark.parametrize(
    "error",
    [
        ServingError("denoiser: something went wrong"),
        GivenUpError("2 replicas stopped"),
        StartError("it cannot be opened"),
        ActorDiedError(),
        KeyError("a fault of ours"),
    ],
)
def test_a_failure_is_told_of_all_as_nobody_knows_whose_it_was(order: Order, error: Exception) -> None:
    assert outcomes_of(order, error) == [Outcome(order.pins[kind], error=True) for kind in DRAWN_BY]


@pytest.mark.parametrize(
    "error",
    [
        OverloadedError("too much waits"),
        DeadlineExceededError("too late"),
        UnavailableError("no replica"),
        FieldError("steps=3: must be even", "steps"),
        RequestError("steps", "steps=3: must be even"),
        BackPressureError(num_queued_requests=3, max_queued_requests=2),
        DeploymentUnavailableError("graph"),
    ],
)
def test_what_was_refused_says_nothing_of_a_version(order: Order, error: Exception) -> None:
    assert outcomes_of(order, error) == []
