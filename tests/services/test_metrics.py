"""What the recorders tell Ray, against the catalogue."""

import gc
import importlib
import inspect
import pkgutil
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ray.util import metrics as rays

from components.contract import Kind
from components.reference import ComponentRef
from services import metrics
from services.metrics import lasting
from services.metrics.catalogue import GROUPS, METRICS, metrics_of
from services.metrics.declared import Counter, Gauge, Histogram
from services.metrics.lasting import LastingGauge
from services.metrics.rollout import RolloutMetrics
from services.metrics.stage import StageMetrics

RAY_KINDS = {Counter: rays.Counter, Gauge: rays.Gauge, Histogram: rays.Histogram}


def parts_of(recorder: object) -> Iterator[Any]:
    """Ray's metrics in a recorder, and in the recorders that it has."""
    for part in vars(recorder).values():
        if isinstance(part, LastingGauge):
            yield part._gauge
        elif isinstance(part, rays.Metric):
            yield part
        elif type(part).__module__.startswith(metrics.__name__):
            yield from parts_of(part)


def recorders() -> Iterator[object]:
    """One of every class of recorder that there is."""
    given = {"StageMetrics": [("denoiser",)], "StoreMetrics": [("latents",), ("pictures",)]}
    for module in pkgutil.iter_modules(metrics.__path__):
        found = importlib.import_module(f"{metrics.__name__}.{module.name}")
        for name, made in inspect.getmembers(found, inspect.isclass):
            if made.__module__ == found.__name__ and name.endswith("Metrics"):
                yield from (made(*arguments) for arguments in given.get(name, [()]))


def test_what_is_recorded_is_what_the_catalogue_says() -> None:
    recorded = {part.info["name"]: part for recorder in recorders() for part in parts_of(recorder)}
    assert recorded.keys() == METRICS.keys()
    for name, part in recorded.items():
        said, told = METRICS[name], part.info
        assert type(part) is RAY_KINDS[type(said)]
        assert (told["description"], told["tag_keys"]) == (said.help, tuple(said.labels))
        if isinstance(said, Histogram):
            assert told["boundaries"] == list(said.buckets)


def test_no_name_is_declared_twice() -> None:
    assert len(METRICS) == sum(len(list(metrics_of(group))) for group in GROUPS)


@pytest.mark.parametrize("name", METRICS)
def test_names_follow_the_rules_of_prometheus(name: str) -> None:
    metric = METRICS[name]
    assert re.fullmatch(r"latentworks(_[a-z]+)+", name)
    assert name.endswith("_total") == isinstance(metric, Counter)
    assert not name.endswith(("_bucket", "_sum", "_count", "_info"))
    base = name.removesuffix("_total")
    if metric.unit in ("seconds", "bytes"):
        assert base.endswith(f"_{metric.unit}")
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", label) and label not in ("le", "quantile") for label in metric.labels)
    if isinstance(metric, Histogram):
        assert list(metric.buckets) == sorted(set(metric.buckets))
        # Ray takes no other
        assert metric.buckets[0] > 0


class Told:
    """In place of Ray's gauge: how often it was set, and to what."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, ...], float] = {}
        self.times = 0
        self.set_again = threading.Event()

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.at[tuple(tags.values())] = value
        self.times += 1
        if self.times > 2:
            self.set_again.set()


def test_a_gauge_is_set_anew_though_nobody_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = lasting._Keeper()
    monkeypatch.setattr(lasting, "_KEEPER", keeper)
    monkeypatch.setattr(lasting, "_AGAIN_S", 0.001)
    told: Any = Told()
    gauge = LastingGauge(told)
    gauge.set(3, {"status": "queued"})
    gauge.set(4, {"status": "failed"})
    assert told.set_again.wait(60)
    assert told.at == {("queued",): 3, ("failed",): 4}
    keeper._end.set()


def test_a_gauge_that_nobody_has_is_set_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = lasting._Keeper()
    monkeypatch.setattr(lasting, "_KEEPER", keeper)
    told: Any = Told()
    gauge = LastingGauge(told)
    gauge.set(3)
    del gauge
    gc.collect()
    before = told.times
    keeper._round()
    assert told.times == before
    keeper._end.set()


def ref(kind: Kind, version: int) -> ComponentRef:
    return ComponentRef(name=f"toy.{kind}", version=version, sha256=f"{version:064x}")


def test_a_version_that_is_live_no_more_goes_to_0() -> None:
    recorder = RolloutMetrics()
    told: Any = Told()
    recorder._live_version._gauge = told
    denoiser = ref(Kind.DENOISER, 1)
    for version in (1, 2):
        recorder.lives({Kind.DENOISER: denoiser, Kind.VAE_DECODER: ref(Kind.VAE_DECODER, version)})
    assert told.at == {
        ("denoiser", "toy.denoiser/1"): 1,
        ("vae_decoder", "toy.vae_decoder/1"): 0,
        ("vae_decoder", "toy.vae_decoder/2"): 1,
    }
    recorder.lives({Kind.DENOISER: denoiser, Kind.VAE_DECODER: ref(Kind.VAE_DECODER, 1)})
    assert told.at["vae_decoder", "toy.vae_decoder/1"] == 1
    assert told.at["vae_decoder", "toy.vae_decoder/2"] == 0


def test_a_version_that_is_held_no_more_has_no_bytes() -> None:
    recorder = StageMetrics("denoiser")
    held: Any = Told()
    size: Any = Told()
    recorder._held._gauge, recorder._held_bytes._gauge = held, size
    recorder.holds({ref(Kind.DENOISER, 1): 100, ref(Kind.DENOISER, 2): 200})
    recorder.holds({ref(Kind.DENOISER, 2): 200})
    assert held.at == {("denoiser",): 1}
    assert size.at == {("denoiser", "toy.denoiser/1"): 0, ("denoiser", "toy.denoiser/2"): 200}
