"""What a query of PromQL asks for, held against the series that there are."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

from tests.k8s.series import SERIES, Series

_RATES = ("rate", "irate", "increase")
_SETS = ("and", "or", "unless")
_COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")


class WrongQueryError(Exception):
    """A query asks for what there is not, or for what makes no sense."""


@dataclass(frozen=True)
class Vector:
    """What a query gives: the labels of its series, None where it has none at all, and the unit of their values."""

    labels: frozenset[str] | None
    unit: str
    counts_up: bool = False
    buckets: bool = False


NUMBER = Vector(None, "")


def check(query: str) -> Vector:
    """Read a query with Grafana's variables in it; what it gives.

    Raises:
        WrongQueryError: it cannot be read, or asks for a metric or a label that there is not, or in a way that gives
            nothing of use.
    """
    try:
        parsed = promql.parse(query.replace("$__rate_interval", "5m"))
    except ValueError as error:
        raise WrongQueryError(f"{query}: {error}") from None
    found = _vector(parsed)
    if found.counts_up or found.buckets:
        raise WrongQueryError(f"{query}: shows a counter, or buckets, as they are")
    return found


def names(query: str) -> Iterator[str]:
    """The names of all series that a query asks for."""
    yield from re.findall(r"\bray_\w+", query)


def _vector(expr: Any) -> Vector:
    return _KINDS[type(expr)](expr)


def _selector(expr: Any) -> Vector:
    series = SERIES.get(expr.name)
    if series is None:
        raise WrongQueryError(f"{expr.name}: there is no such series")
    for matcher in (*expr.matchers.matchers, *(one for many in expr.matchers.or_matchers for one in many)):
        _check_matcher(expr.name, series, matcher)
    return Vector(series.labels, series.unit, series.part != "gauge", series.part == "bucket")


def _check_matcher(name: str, series: Series, matcher: Any) -> None:
    if matcher.name not in series.labels:
        raise WrongQueryError(f"{name}: has no label {matcher.name}")
    values = series.values.get(matcher.name)
    if not values or "$" in matcher.value:
        return
    regular = matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe)
    pattern = matcher.value if regular else re.escape(matcher.value)
    if not any(re.fullmatch(pattern, value) for value in values):
        raise WrongQueryError(f"{name}: {matcher.name} is never {matcher.value}, but one of {', '.join(values)}")


def _call(expr: Any) -> Vector:
    name = expr.func.name
    if name in _RATES:
        return _rate(name, _selector(expr.args[0].vector_selector))
    if name == "histogram_quantile":
        return _quantile(_vector(expr.args[1]))
    if name == "vector":
        return Vector(frozenset(), "")
    raise WrongQueryError(f"{name}: is not known here")


def _rate(name: str, given: Vector) -> Vector:
    if not given.counts_up:
        raise WrongQueryError(f"{name}: of a gauge, which goes down too")
    unit = given.unit if name == "increase" else f"{given.unit}/s"
    return Vector(given.labels, unit, buckets=given.buckets)


def _quantile(given: Vector) -> Vector:
    if not given.buckets or given.counts_up:
        raise WrongQueryError("histogram_quantile: needs the rate of buckets")
    if "le" not in (given.labels or ()):
        raise WrongQueryError("histogram_quantile: le was summed away")
    return Vector((given.labels or frozenset()) - {"le"}, given.unit.removesuffix("/s"))


def _aggregate(expr: Any) -> Vector:
    given = _vector(expr.expr)
    if given.counts_up:
        raise WrongQueryError("a counter is summed up before its rate is taken, so that an end of a process looks bad")
    inner = given.labels or frozenset()
    if expr.modifier is None:
        return Vector(frozenset(), given.unit, buckets=given.buckets)
    named = frozenset(expr.modifier.labels)
    if absent := named - inner:
        raise WrongQueryError(f"{', '.join(sorted(absent))}: no label of {expr.expr.prettify()}")
    by = expr.modifier.type == promql.AggModifierType.By
    return Vector(named if by else inner - named, given.unit, buckets=given.buckets)


def _binary(expr: Any) -> Vector:
    left, right, op = _vector(expr.lhs), _vector(expr.rhs), str(expr.op)
    if left.counts_up or right.counts_up or left.buckets or right.buckets:
        raise WrongQueryError(f"{op}: of a counter, or of buckets, as they are")
    # labels that only one side has would match nothing; a vector of one number stands in where there is none
    if None not in (left.labels, right.labels) and left.labels != right.labels:
        raise WrongQueryError(f"{op}: the two sides have other labels")
    labels = right.labels if left.labels is None else left.labels
    if op in (*_SETS, *_COMPARISONS):
        return Vector(labels, left.unit)
    if op != "/":
        raise WrongQueryError(f"{op}: is not known here")
    unit = "ratio" if left.unit == right.unit else f"{left.unit} of {right.unit}"
    return Vector(labels, unit)


_KINDS: dict[type, Callable[[Any], Vector]] = {
    promql.VectorSelector: _selector,
    promql.Call: _call,
    promql.AggregateExpr: _aggregate,
    promql.BinaryExpr: _binary,
    promql.ParenExpr: lambda expr: _vector(expr.expr),
    promql.NumberLiteral: lambda _: NUMBER,
}
