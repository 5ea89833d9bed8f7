"""Spans as OpenTelemetry has them: exported below the span that is current, and not made where there is none."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from components.contract import Kind
from components.reference import ComponentRef
from services.timelines.spans import Span
from services.timelines.tracing import export

PIN = ComponentRef(name="toy.denoiser", version=3, sha256="1" * 64)
RUN = Span("run", 1000.5, 0.25, facts={"rows": 2})
WALK = Span("walk", 1000.0, 1.0, Kind.DENOISER, PIN, "denoiser-1", parts=(Span("queue", 1000.0, 0.5), RUN))
GRAPH = Span("graph", 999.0, 3.0, replica="graph-1", parts=(Span("denoiser", 999.5, 2.0, parts=(WALK,)),))


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> "Traced":
    return Traced(monkeypatch, ALWAYS_ON)


class Traced:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, sampler: Sampler) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider(sampler=sampler)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        monkeypatch.setattr(trace, "get_tracer", self._provider.get_tracer)

    def inside(self, span: Span) -> dict[str, ReadableSpan]:
        """What is exported within a call that Serve traces."""
        with trace.get_tracer("serve").start_as_current_span("call"):
            export(span)
        return {made.name: made for made in self._exporter.get_finished_spans()}


def test_parts_hang_below_their_whole_and_keep_their_times(tracer: Traced) -> None:
    made = tracer.inside(WALK)
    parents = {name: None if span.parent is None else span.parent.span_id for name, span in made.items()}
    ids = {name: span.context.span_id for name, span in made.items() if span.context is not None}
    assert parents == {"call": None, "walk": ids["call"], "queue": ids["walk"], "run": ids["walk"]}
    assert (made["run"].start_time, made["run"].end_time) == (1_000_500_000_000, 1_000_750_000_000)
    assert made["run"].attributes == {"latentworks.rows": 2}
    assert made["walk"].attributes == {"latentworks.stage": "denoiser", "latentworks.component": "toy.denoiser/3"}


def test_another_replicas_part_is_exported_there(tracer: Traced) -> None:
    assert set(tracer.inside(GRAPH)) == {"call", "graph", "denoiser"}


def test_nothing_is_made_where_nobody_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer", lambda *_: pytest.fail("a tracer was asked for"))
    export(WALK)


def test_nothing_is_made_of_a_trace_that_is_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Traced(monkeypatch, ALWAYS_OFF).inside(WALK) == {}
