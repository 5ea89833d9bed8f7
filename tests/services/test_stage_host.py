"""What every stage's replica does around its work: health, what a caller hears, what the log says."""

import asyncio
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from components.contract import PARTS, Kind
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError
from pipeline.request import RequestRules
from runtime.errors import RuntimeFault
from runtime.session import Session
from services.denoiser import DenoiserDeployment, DenoiserSettings
from services.errors import DeadlineExceededError, OverloadedError, ServingError, StartError
from services.messages import LiveModel, Worked
from services.stage_args import DenoiserArgs, StageArgs, TextEncoderArgs
from services.stage_host import FAULTS_BEFORE_PROBE, StageHost, StageSettings
from services.text_encoder import TextEncoderDeployment, TextEncoderSettings
from services.timelines.spans import Span, Stopwatch
from services.vae_decoder import VaeDecoderDeployment
from services.vae_encoder import VaeEncoderDeployment
from tests.services.conftest import FakeRollout, record_of

Published = tuple[LiveModel, StageSettings]
DEPLOYMENTS: Mapping[Kind, Any] = {
    Kind.TEXT_ENCODER: TextEncoderDeployment,
    Kind.DENOISER: DenoiserDeployment,
    Kind.VAE_DECODER: VaeDecoderDeployment,
    Kind.VAE_ENCODER: VaeEncoderDeployment,
}
LOST = "denoiser: the device is lost"


def ask_nonsense(stage: Any) -> Worked[Any]:
    """What a caller's bad request comes to."""
    return Worked(stage._session.run({}), Span("nonsense", 0.0, 0.0))


def warm_up(stage: Denoiser) -> Worked[None]:
    """Work that a sound stage can do."""
    watch = Stopwatch()
    stage.warm_up()
    return Worked(None, watch.span("warm_up"))


async def faults(host: StageHost[Any], pin: Any) -> None:
    for _ in range(FAULTS_BEFORE_PROBE):
        await host.check_health()
        with pytest.raises(ServingError):
            await host.run(pin, ask_nonsense)


def lose(*_: object, **_named: object) -> Any:
    raise RuntimeFault(LOST)


def settings_of(kind: Kind, stage: StageSettings) -> StageSettings:
    """What the deployment of that kind takes."""
    if kind == Kind.TEXT_ENCODER:
        return TextEncoderSettings(registry=stage.registry, args=TextEncoderArgs(threads=1, cache_bytes=0))
    if kind != Kind.DENOISER:
        return stage
    return DenoiserSettings(registry=stage.registry, args=DenoiserArgs(threads=1), rules=RequestRules())


class Figures:
    """In place of a host's metrics: what was counted, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.shares: list[float] = []

    def worked(self, _version: str, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append("worked")

    def took(self, _version: str, phase: str, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append(phase)

    def occupied(self, _version: str, share: float) -> None:
        self.shares.append(share)

    def failed(self, _version: str) -> None:
        self.seen.append("failed")

    def abandoned(self, _version: str) -> None:
        self.seen.append("abandoned")


def test_bad_requests_leave_the_replica_alone(published: Published) -> None:
    live, settings = published
    probes: list[threading.Thread] = []

    def probe(stage: Denoiser) -> None:
        probes.append(threading.current_thread())
        stage.warm_up()

    async def run() -> None:
        host = StageHost(Kind.DENOISER, Denoiser, probe, settings)
        await faults(host, live.pins[Kind.DENOISER])
        assert probes == []
        await host.check_health()
        assert len(probes) == 1
        assert probes[0] is not threading.current_thread(), "the event loop stood still"
        with pytest.raises(ServingError):
            await host.run(live.pins[Kind.DENOISER], ask_nonsense)
        await host.check_health()
        assert len(probes) == 1, "one more fault is not several"

    asyncio.run(run())


def test_a_run_that_works_ends_the_suspicion(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    live, settings = published

    async def run() -> None:
        host = StageHost(Kind.DENOISER, Denoiser, Denoiser.warm_up, settings)
        await faults(host, live.pins[Kind.DENOISER])
        await host.run(live.pins[Kind.DENOISER], warm_up)
        monkeypatch.setattr(Session, "run", lose)
        await host.check_health()

    asyncio.run(run())


@pytest.mark.parametrize("kind", PARTS)
def test_a_replica_that_cannot_work_any_more_says_so(
    kind: Kind, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, settings = published

    async def run() -> None:
        deployment = DEPLOYMENTS[kind].__new__(DEPLOYMENTS[kind])
        await deployment.__init__(FakeRollout(live), settings_of(kind, settings))
        await faults(deployment._host, live.pins[kind])
        # its session is sound
        await deployment.check_health()
        await faults(deployment._host, live.pins[kind])
        monkeypatch.setattr(Session, "run", lose)
        # Serve replaces a replica after several failed checks in a row, so that it must go on failing
        for _ in range(3):
            with pytest.raises(ServingError, match=f"toy.{kind}/1: 3 runs failed, and so did the probe: {LOST}"):
                await deployment.check_health()

    asyncio.run(run())


def test_why_a_run_failed_is_for_the_log(published: Published, serve_log: pytest.LogCaptureFixture) -> None:
    live, settings = published

    def fail(_stage: Denoiser) -> Worked[None]:
        raise RuntimeFault(LOST)

    async def run() -> None:
        await StageHost(Kind.DENOISER, Denoiser, Denoiser.warm_up, settings).run(live.pins[Kind.DENOISER], fail)

    with pytest.raises(ServingError) as raised:
        asyncio.run(run())
    assert str(raised.value) == "denoiser: something went wrong in this stage"
    assert f"toy.denoiser/1: {LOST}" in serve_log.messages


def test_opening_says_what_runs_it(published: Published, serve_log: pytest.LogCaptureFixture) -> None:
    live, settings = published
    on_cpu = settings.model_copy(update={"args": StageArgs(threads=3, provider="cpu")})

    async def run() -> None:
        await StageHost(Kind.DENOISER, Denoiser, Denoiser.warm_up, on_cpu).start(record_of(live))

    asyncio.run(run())
    [message] = serve_log.messages
    assert re.fullmatch(r"denoiser: opened toy.denoiser/1 on cpu in \d+\.\d{3} s, copy: small, threads: 3", message)


@pytest.mark.parametrize(
    ("ending", "counted"),
    [
        (None, ["worked"]),
        (asyncio.CancelledError(), ["abandoned"]),
        (GeneratorExit(), ["abandoned"]),
        (ServingError("denoiser: something went wrong in this stage"), ["failed"]),
        (OverloadedError("as much waits as may wait", 3), []),
        (DeadlineExceededError("deadline_s=1: has passed", "deadline_s"), []),
        (RequestError("steps", "steps=3: must be even"), []),
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_call_is_counted_by_how_it_ended(
    published: Published, ending: BaseException | None, counted: list[str]
) -> None:
    live, settings = published
    host = StageHost(Kind.DENOISER, Denoiser, Denoiser.warm_up, settings)
    figures = Figures()
    host.metrics = figures  # type: ignore[assignment]  # a fake of those that count calls

    def call() -> None:
        with host.working(live.pins[Kind.DENOISER]):
            if ending is not None:
                raise ending

    if ending is None:
        call()
    else:
        with pytest.raises(type(ending)):
            call()
    assert figures.seen == counted


def test_runs_beside_the_host_make_a_version_suspect_too(
    published: Published, serve_log: pytest.LogCaptureFixture
) -> None:
    live, settings = published
    pin = live.pins[Kind.DENOISER]
    probed: list[Denoiser] = []

    async def run() -> None:
        host = StageHost(Kind.DENOISER, Denoiser, probed.append, settings)
        async with host.using(pin) as stage, host.using(pin) as again:
            assert again is stage, "it was opened again"
        for _ in range(FAULTS_BEFORE_PROBE):
            host.ran(pin, stage, RuntimeFault(LOST))
        host.ran(pin, stage)
        await host.check_health()
        assert probed == []
        for _ in range(FAULTS_BEFORE_PROBE):
            host.ran(pin, stage, RuntimeFault(LOST))
        await host.check_health()
        assert probed == [stage]

    asyncio.run(run())
    assert serve_log.messages.count(f"toy.denoiser/1: {LOST}") == 2 * FAULTS_BEFORE_PROBE


def test_a_version_that_cannot_be_had_is_an_error_of_the_start(published: Published) -> None:
    live, settings = published
    missing = live.pins[Kind.DENOISER].model_copy(update={"version": 99, "sha256": "0" * 64})

    async def run() -> None:
        async with StageHost(Kind.DENOISER, Denoiser, Denoiser.warm_up, settings).using(missing):
            pass

    with pytest.raises(StartError):
        asyncio.run(run())


def test_a_version_that_nobody_wants_does_not_make_the_replica_unwell(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, settings = published
    pin = live.pins[Kind.DENOISER]

    async def run() -> None:
        host = StageHost(Kind.DENOISER, Denoiser, Denoiser.warm_up, settings)
        await faults(host, pin)
        monkeypatch.setattr(Session, "run", lose)
        await host.check_health()
        assert not host._versions.holds(pin), "it was let go of"
        assert host._suspects == {}

    asyncio.run(run())


def test_a_version_that_was_closed_is_no_suspect(published: Published) -> None:
    live, settings = published
    pin = live.pins[Kind.DENOISER]
    probed: list[Denoiser] = []

    async def run() -> None:
        host = StageHost(Kind.DENOISER, Denoiser, probed.append, settings)
        await faults(host, pin)
        assert host._versions.let_go(pin)
        await host.check_health()
        assert (probed, host._suspects) == ([], {})

    asyncio.run(run())


def test_a_call_tells_its_phases(published: Published) -> None:
    live, settings = published
    pin = live.pins[Kind.DENOISER]
    figures = Figures()

    async def run() -> None:
        host = StageHost(Kind.DENOISER, Denoiser, Denoiser.warm_up, settings)
        host.metrics.took = figures.took  # type: ignore[method-assign,assignment]
        for _ in range(2):
            worked = await host.run(pin, warm_up)
            assert worked.span.seconds > 0
        with pytest.raises(ServingError):
            await host.run(pin, ask_nonsense)

    asyncio.run(run())
    assert figures.seen == ["load", "run", "run"]


def test_a_replica_tells_how_much_of_it_its_calls_take(published: Published) -> None:
    live, settings = published
    pin = live.pins[Kind.DENOISER]
    most = settings.args.max_ongoing_requests
    figures = Figures()

    async def run() -> None:
        host = StageHost(Kind.DENOISER, Denoiser, Denoiser.warm_up, settings)
        host.metrics.occupied = figures.occupied  # type: ignore[method-assign,assignment]
        ended = await asyncio.gather(
            host.run(pin, warm_up), host.run(pin, ask_nonsense), host.run(pin, warm_up), return_exceptions=True
        )
        assert [isinstance(one, Worked) for one in ended] == [True, False, True]
        waits = asyncio.create_task(host.run(pin, warm_up))
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)

    asyncio.run(run())
    assert [share * most for share in figures.shares] == [1, 2, 3, 2, 1, 0, 1, 0]


def test_a_call_tells_how_long_it_was_in_the_replica(published: Published) -> None:
    live, settings = published

    async def run() -> None:
        host = StageHost(Kind.DENOISER, Denoiser, Denoiser.warm_up, settings)
        # opening the version counts
        before = time.perf_counter()
        worked = await host.run(live.pins[Kind.DENOISER], warm_up)
        assert worked.span.seconds < worked.present_s <= time.perf_counter() - before

    asyncio.run(run())
