"""Timelines' spans in OpenTelemetry's words, below those that Serve makes of every call.

Serve's own tracing does the rest: it takes a caller's `traceparent`, carries the context between deployments, samples,
and exports to where its `tracing_config` says. Where that is off, nothing here makes a span.
"""

from opentelemetry import trace
from ray import serve

from services.timelines.spans import Fact, Span

_PREFIX = "latentworks"
_NANO = 10**9


def export(span: Span) -> None:
    """Export a span that this replica has finished, with its parts but those of other replicas, which export theirs."""
    if serve.get_trace_context() is None or not trace.get_current_span().is_recording():
        return
    _export(span, trace.get_tracer(_PREFIX))


def _export(span: Span, tracer: trace.Tracer) -> None:
    with trace.use_span(
        tracer.start_span(span.name, start_time=int(span.start * _NANO), attributes=_attributes(span))
    ) as made:
        for part in span.parts:
            if part.replica is None:
                _export(part, tracer)
        made.end(int(span.end * _NANO))


def _attributes(span: Span) -> dict[str, Fact]:
    named = {"stage": span.stage, "component": span.component}
    told = {name: str(value) for name, value in named.items() if value is not None}
    return {f"{_PREFIX}.{name}": value for name, value in {**told, **span.facts}.items()}
