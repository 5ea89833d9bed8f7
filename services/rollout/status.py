"""The state of the rollout in words and numbers, as `python -m registry status` shows it."""

from typing import Any

from components.reference import ComponentRef
from services.messages import ReplicaReport, VersionReport
from services.rollout.canary import Tally
from services.rollout.controller import Controller


def status(controller: Controller) -> dict[str, Any]:
    """What is live, what is on its way there, and what every replica holds."""
    rollout, record, preparing = controller.rollout, controller.record, controller.preparing
    return {
        "bundle": controller.bundle,
        "state": rollout.state,
        "reason": rollout.reason,
        "registry_away_s": controller.outage.seconds,
        "live": [_pin(ref) for ref in rollout.components],
        "preparing": None if preparing is None else [_pin(ref) for ref in preparing.components],
        "fallback": None if record.fallback is None else _pin(record.fallback),
        "canary": _canary(controller),
        "shadow": _shadow(controller),
        "refused": [
            {"name": name, "version": version, "reason": why} for (name, version), why in controller.refused.items()
        ],
        "replicas": {
            kind.value: [_replica(report) for report in reports]
            for kind, reports in controller.replicas.reports.items()
        },
    }


def _canary(controller: Controller) -> dict[str, Any] | None:
    canary, watch = controller.rollout.canary, controller.canary
    if canary is None or watch is None:
        return None
    return {
        **_pin(canary.ref),
        "percent": canary.percent,
        "sticky": canary.sticky,
        "counts": _tally(watch.tally(canary.ref)),
        "live_counts": _tally(watch.tally(watch.live)),
    }


def _shadow(controller: Controller) -> dict[str, Any] | None:
    shadow, log = controller.rollout.shadow, controller.shadow
    if shadow is None or log is None:
        return None
    return {**_pin(shadow.ref), "percent": shadow.percent, "figures": log.tally.figures(), "mlflow_run": log.run}


def _tally(tally: Tally) -> dict[str, int]:
    return {"requests": tally.requests, "errors": tally.errors, "non_finite": tally.non_finite}


def _replica(report: ReplicaReport) -> dict[str, Any]:
    return {
        "replica": report.replica,
        "node": report.node,
        "versions": [_version(version) for version in report.versions],
    }


def _version(version: VersionReport) -> dict[str, Any]:
    return {
        **_pin(version.pin),
        "state": version.state,
        "reason": version.reason,
        "bytes": version.size,
        "seconds": round(version.seconds, 3),
        "users": version.users,
    }


def _pin(ref: ComponentRef) -> dict[str, Any]:
    return ref.model_dump(mode="json")
