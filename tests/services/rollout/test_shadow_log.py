"""What a shadow showed, in numbers."""

import math

import pytest

from components.contract import Kind
from components.reference import ComponentRef
from registry.rollout.state import Rollout, Shadow
from services.messages import LiveModel, ShadowResult
from services.rollout import shadow_log
from services.rollout.shadow_log import ShadowLog, log_of
from tests.services.rollout.conftest import ref_of


@pytest.fixture
def candidate(live: LiveModel) -> ComponentRef:
    return ref_of(live, Kind.VAE_DECODER, 2)


def result(pin: ComponentRef, psnr_db: float | None, seconds: float | None = 0.5, **more: object) -> ShadowResult:
    return ShadowResult(pin=pin, live=pin, psnr_db=psnr_db, seconds=seconds, live_seconds=0.25, **more)  # type: ignore[arg-type]


def test_figures(candidate: ComponentRef) -> None:
    log = ShadowLog(candidate)
    assert log.tally.figures() == {"pictures": 0, "equal": 0, "failed": 0, "non_finite": 0}
    for psnr in (30.0, 40.0, math.inf):
        log.add(result(candidate, psnr))
    log.add(result(candidate, None, None, failed="no room"))
    log.add(result(candidate, None, None, finite=False, failed="gave NaN"))
    assert log.tally.figures() == {
        "pictures": 5,
        "equal": 1,
        "failed": 1,
        "non_finite": 1,
        "psnr_db.mean": 35.0,
        "psnr_db.least": 30.0,
        "seconds.mean": 0.5,
        "live_seconds.mean": 0.25,
    }
    assert len(log.waiting) == 5


def test_equal_pictures_alone_have_no_psnr(candidate: ComponentRef) -> None:
    log = ShadowLog(candidate)
    log.add(result(candidate, math.inf))
    assert "psnr_db.mean" not in log.tally.figures()
    assert log.tally.figures()["seconds.mean"] == 0.5


def test_another_version_came_too_late(candidate: ComponentRef, live: LiveModel) -> None:
    log = ShadowLog(candidate)
    log.add(result(live.pins[Kind.VAE_DECODER], 30.0))
    assert (log.tally.pictures, log.waiting) == (0, [])


def test_what_waits_for_mlflow_is_bounded_and_all_is_counted(
    candidate: ComponentRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_log, "_MOST_WAITING", 3)
    log = ShadowLog(candidate)
    for _ in range(5):
        log.add(result(candidate, 30.0))
    assert (log.tally.pictures, len(log.waiting)) == (5, 3)


def test_the_log_goes_on_for_the_same_version(candidate: ComponentRef, live: LiveModel) -> None:
    rollout = Rollout(components=tuple(live.pins.values()), shadow=Shadow(ref=candidate, percent=10), state="live")
    log = log_of(rollout, None)
    assert log is not None
    more = rollout.model_copy(update={"shadow": Shadow(ref=candidate, percent=50)})
    assert log_of(more, log) is log
    other = rollout.model_copy(update={"shadow": Shadow(ref=ref_of(live, Kind.VAE_DECODER, 3), percent=50)})
    assert log_of(other, log) is not log
    assert log_of(rollout.model_copy(update={"shadow": None}), log) is None
