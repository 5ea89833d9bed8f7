"""When a canary is too bad, and beside what."""

import pytest

from components.contract import Kind
from registry.rollout.state import Canary, Rollout
from services.messages import LiveModel, Outcome
from services.rollout.canary import CanaryWatch, watch_of
from tests.services.rollout.conftest import ref_of


@pytest.fixture
def watch(live: LiveModel) -> CanaryWatch:
    canary = Canary(ref=ref_of(live, Kind.VAE_DECODER, 2), percent=10, least=10, error_rate=0.1, non_finite_rate=0.05)
    return CanaryWatch(canary, live.pins[Kind.VAE_DECODER])


def requests(watch: CanaryWatch, ours: str = "", theirs: str = "") -> str | None:
    """Add requests by letters: `.` went well, `e` failed, `n` gave no finite picture."""
    for ref, ends in ((watch.canary.ref, ours), (watch.live, theirs)):
        watch.add([Outcome(ref, error=end == "e", non_finite=end == "n") for end in ends])
    return watch.too_bad()


def test_too_few_requests_say_nothing(watch: CanaryWatch) -> None:
    assert requests(watch, "e" * 9) is None
    said = "toy.vae_decoder/2 was rolled back: 10 of its 10 requests failed, and 0 of 0 of toy.vae_decoder/1; "
    assert requests(watch, "e") == f"{said}the limit is 0.1 more"


def test_a_rate_at_the_limit_is_borne(watch: CanaryWatch) -> None:
    assert requests(watch, "." * 9 + "e") is None
    assert requests(watch, "e") is not None


def test_where_everything_fails_the_canary_is_not_to_blame(watch: CanaryWatch) -> None:
    assert requests(watch, "e" * 20, "e" * 20) is None
    assert requests(watch, "", "." * 20) is not None


def test_pictures_that_are_not_finite_have_their_own_limit(watch: CanaryWatch) -> None:
    said = requests(watch, "." * 18 + "nn", "." * 20)
    assert said is not None
    assert "2 of its 20 requests gave no finite picture, and 0 of 20 of toy.vae_decoder/1" in said


def test_other_versions_do_not_count(watch: CanaryWatch, live: LiveModel) -> None:
    watch.add([Outcome(live.pins[Kind.DENOISER], error=True)] * 100)
    assert (watch.too_bad(), watch.tallies) == (None, {})
    assert watch.tally(watch.canary.ref).share(0) == 0


def test_the_counts_go_on_while_nothing_about_it_changes(watch: CanaryWatch, live: LiveModel) -> None:
    rollout = Rollout(components=tuple(live.pins.values()), canary=watch.canary, state="live")
    assert watch_of(rollout, watch) is watch
    assert watch_of(rollout.model_copy(update={"canary": None}), watch) is None
    more = watch.canary.model_copy(update={"percent": 50})
    assert watch_of(rollout.model_copy(update={"canary": more}), watch) is not watch
    beside = watch_of(rollout, CanaryWatch(watch.canary, ref_of(live, Kind.VAE_DECODER, 3)))
    assert beside is not None
    assert beside.live == watch.live, "it is compared with what is live"
