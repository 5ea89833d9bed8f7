"""The series that a Prometheus has of a server: ours by the catalogue, and the few of Ray Serve that we show."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from services.metrics.catalogue import METRICS
from services.metrics.declared import PREFIX, Counter, Gauge, Labels

Part: TypeAlias = Literal["counter", "gauge", "bucket", "sum", "count"]

# of every sample: of the process, as `tests/services/test_served.py` finds them on a page
RAYS = frozenset({"Component", "NodeAddress", "SessionName", "Version", "WorkerId"})
# those of OpenTelemetry tell nothing
TELEMETRY = frozenset({"otel_scope_name", "otel_scope_schema_url", "otel_scope_version"})
# what Prometheus adds, of where it asked
TARGET = frozenset({"instance", "job", "namespace", "pod", "container"})


@dataclass(frozen=True)
class Family:
    """A metric as Ray exports it."""

    kind: str
    unit: str
    labels: Labels = field(default_factory=dict)


def _labels(*names: str) -> Labels:
    return dict.fromkeys(names, ())


FAMILIES: dict[str, Family] = {
    **{PREFIX + name: Family(one.kind, one.unit, one.labels) for name, one in METRICS.items()},
    "ray_serve_request_router_fulfillment_time_ms": Family(
        "histogram", "milliseconds", _labels("application", "deployment", "handle_source", "actor_id")
    ),
    "ray_serve_deployment_replica_healthy": Family("gauge", "", _labels("application", "deployment", "replica")),
    "ray_serve_deployment_replica_starts_total": Family("counter", "", _labels("application", "deployment", "replica")),
}


@dataclass(frozen=True)
class Series:
    """One name that queries can ask for."""

    part: Part
    unit: str
    values: Labels

    @property
    def labels(self) -> frozenset[str]:
        return RAYS | TARGET | self.values.keys() | ({"le"} if self.part == "bucket" else set())


def _series() -> dict[str, Series]:
    found: dict[str, Series] = {}
    for name, family in FAMILIES.items():
        if family.kind == Counter.__name__.lower():
            found[name] = Series("counter", family.unit, family.labels)
        elif family.kind == Gauge.__name__.lower():
            found[name] = Series("gauge", family.unit, family.labels)
        else:
            found[f"{name}_bucket"] = Series("bucket", family.unit, family.labels)
            found[f"{name}_sum"] = Series("sum", family.unit, family.labels)
            found[f"{name}_count"] = Series("count", "", family.labels)
    return found


SERIES = _series()
