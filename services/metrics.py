"""Every metric of ours; Prometheus shows each with Ray's prefix, `ray_latentworks_...`."""

import threading
from collections.abc import Mapping
from typing import Literal
from weakref import WeakKeyDictionary

from ray.util.metrics import Counter, Gauge, Histogram

from components.reference import ComponentRef
from pipeline.prompts.cache import CacheFigures
from services.jobs.records import JobStatus

_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0]


class IngressMetrics:
    """What the HTTP side counts, in each ingress replica."""

    def __init__(self) -> None:
        self.requests = Counter(
            "latentworks_requests_total", "HTTP requests answered", tag_keys=("route", "method", "status")
        )
        self.request_seconds = Histogram(
            "latentworks_request_seconds",
            "from the first byte read to the last byte sent, by route",
            boundaries=_SECONDS,
            tag_keys=("route",),
        )
        self.images = Counter("latentworks_images_total", "pictures sent", tag_keys=("format",))
        self.truncated_prompts = Counter(
            "latentworks_truncated_prompts_total", "prompts cut at the token limit", tag_keys=("field",)
        )
        self.admitted_images = Gauge("latentworks_admitted_images", "pictures admitted and not answered yet")
        self.refused = Counter("latentworks_refused_total", "requests turned away", tag_keys=("reason",))
        self.keys = Gauge("latentworks_keys", "keys that are let in")
        self.keys_refused = Gauge(
            "latentworks_keys_file_refused", "1 while the newest file of keys cannot be used, and the keys before stay"
        )
        self.version_requests = _version_requests()

    def has_keys(self, count: int, refused: bool) -> None:
        """So many keys are let in; `refused` while the newest file of them cannot be used."""
        self.keys.set(count)
        self.keys_refused.set(int(refused))


class StageMetrics:
    """What one stage's replica counts; every figure carries the component's version."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        tags = ("stage", "version")
        self._seconds = Histogram(
            "latentworks_stage_seconds", "one call's work in a stage", boundaries=_SECONDS, tag_keys=tags
        )
        self._failures = Counter("latentworks_stage_failures_total", "calls that failed in a stage", tag_keys=tags)
        self._abandoned = Counter("latentworks_stage_abandoned_total", "calls whose caller went away", tag_keys=tags)
        self._open_seconds = Histogram(
            "latentworks_open_seconds",
            "open and warm up a version whose files are here",
            boundaries=_SECONDS,
            tag_keys=tags,
        )
        self._copies = Counter(
            "latentworks_compiled_copies_total",
            "openings, by what became of the compiled copy; all but hit and built opened the plain model",
            tag_keys=(*tags, "outcome"),
        )
        self._held = Gauge("latentworks_versions_held", "versions that a replica holds open", tag_keys=("stage",))
        self._held_bytes = Gauge("latentworks_versions_held_bytes", "weights of the versions held", tag_keys=("stage",))

    def worked(self, version: str, seconds: float) -> None:
        """One call was done."""
        self._seconds.observe(seconds, tags=self._tags(version))

    def failed(self, version: str) -> None:
        """One call raised."""
        self._failures.inc(tags=self._tags(version))

    def abandoned(self, version: str) -> None:
        """One call was given up because nobody waits for it."""
        self._abandoned.inc(tags=self._tags(version))

    def opened(self, version: str, copy: str, seconds: float) -> None:
        """A version was opened; `copy` says what became of its compiled copy."""
        self._open_seconds.observe(seconds, tags=self._tags(version))
        self._copies.inc(tags={**self._tags(version), "outcome": copy})

    def holds(self, versions: int, size: int) -> None:
        """So many versions are open, of so many bytes."""
        self._held.set(versions, tags={"stage": self._stage})
        self._held_bytes.set(size, tags={"stage": self._stage})

    def _tags(self, version: str) -> dict[str, str]:
        return {"stage": self._stage, "version": version}


class CacheMetrics:
    """What the caches of conditioning of one text encoder's replica did; there is one for each version held.

    Usable from any number of threads at once.
    """

    def __init__(self) -> None:
        self._lookups = Counter(
            "latentworks_conditioning_cache_total",
            "texts looked up before they are encoded: hit or miss",
            tag_keys=("version", "outcome"),
        )
        self._bytes = Gauge("latentworks_conditioning_cache_bytes", "conditioning kept of all versions held")
        self._lock = threading.Lock()
        self._counted: WeakKeyDictionary[object, CacheFigures] = WeakKeyDictionary()

    def used(self, owner: object, version: str, figures: CacheFigures) -> None:
        """The cache that `owner`, a version's stage, has was used, and says what it did by now."""
        tags = {"version": version}
        with self._lock:
            before = self._counted.get(owner, CacheFigures(0, 0, 0, 0))
            # another thread, which came later, may have been here first
            hits, misses = max(before.hits, figures.hits), max(before.misses, figures.misses)
            self._counted[owner] = figures._replace(hits=hits, misses=misses)
            size = sum(one.size for one in self._counted.values())
        for outcome, more in (("hit", hits - before.hits), ("miss", misses - before.misses)):
            if more:
                self._lookups.inc(more, tags={**tags, "outcome": outcome})
        self._bytes.set(size)


class DenoiserMetrics:
    """What the step loop of one denoiser's replica counts; every figure carries the component's version."""

    def __init__(self) -> None:
        tag = ("version",)
        self._rows = Histogram(
            "latentworks_denoiser_rows", "rows of a U-Net run", boundaries=[1, 2, 3, 4, 6, 8, 12, 16, 32], tag_keys=tag
        )
        self._runs = Counter("latentworks_denoiser_runs_total", "U-Net runs", tag_keys=tag)
        self._run_seconds = Histogram(
            "latentworks_denoiser_run_seconds",
            "one U-Net run, with the samplers' work before and after it",
            boundaries=_SECONDS,
            tag_keys=tag,
        )
        self._evaluations = Counter("latentworks_denoiser_evaluations_total", "answers to samplers", tag_keys=tag)
        self._wasted = Counter(
            "latentworks_denoiser_evaluations_wasted_total", "evaluations of walks that were given up", tag_keys=tag
        )
        self._queue_seconds = Histogram(
            "latentworks_denoiser_queue_seconds",
            "from a walk's arrival at the replica to its first run",
            boundaries=_SECONDS,
            tag_keys=tag,
        )
        self._runs_waited = Histogram(
            "latentworks_denoiser_runs_waited",
            "runs that began between a walk's arrival and its first; free_row says whether there was room for it",
            boundaries=[0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5],
            tag_keys=(*tag, "free_row"),
        )
        self._admitted = Counter("latentworks_denoiser_admitted_total", "walks admitted", tag_keys=tag)
        self._refused = Counter("latentworks_denoiser_refused_total", "walks refused", tag_keys=(*tag, "reason"))
        self._cancelled = Counter("latentworks_denoiser_cancelled_total", "walks given up", tag_keys=(*tag, "reason"))
        self._split = Counter(
            "latentworks_denoiser_split_runs_total",
            "runs that failed for all their rows together and were done again picture by picture",
            tag_keys=tag,
        )
        # the replica's, whatever versions it has
        self._occupancy = Gauge(
            "latentworks_denoiser_occupancy", "rows of the newest run, as a share of what a run may have; 0 without one"
        )
        self._waiting = Gauge("latentworks_denoiser_waiting", "walks that wait for a run")
        self._queued = Gauge(
            "latentworks_denoiser_queued", "work to be done, in rows times latent pixels times evaluations"
        )

    def admitted(self, pin: ComponentRef) -> None:
        """A walk was admitted."""
        self._admitted.inc(tags=_version(pin))

    def refused(self, pin: ComponentRef, reason: str) -> None:
        """A walk was turned away."""
        self._refused.inc(tags={**_version(pin), "reason": reason})

    def cancelled(self, pin: ComponentRef, reason: str, evaluations_wasted: int) -> None:
        """A walk was given up, after so many evaluations."""
        self._cancelled.inc(tags={**_version(pin), "reason": reason})
        if evaluations_wasted:
            self._wasted.inc(evaluations_wasted, tags=_version(pin))

    def began(self, pin: ComponentRef, seconds: float, runs: int, found_free_row: bool) -> None:
        """A walk's first run began, so many seconds after its arrival and with so many runs before it."""
        self._queue_seconds.observe(seconds, tags=_version(pin))
        self._runs_waited.observe(runs, tags={**_version(pin), "free_row": str(found_free_row).lower()})

    def ran(self, pin: ComponentRef, evaluations: int, rows: int, occupancy: float, seconds: float) -> None:
        """A run has ended."""
        tags = _version(pin)
        self._runs.inc(tags=tags)
        self._evaluations.inc(evaluations, tags=tags)
        self._rows.observe(rows, tags=tags)
        self._run_seconds.observe(seconds, tags=tags)
        self._occupancy.set(occupancy)

    def split(self, pin: ComponentRef) -> None:
        """A run failed for all together, and was done again picture by picture."""
        self._split.inc(tags=_version(pin))

    def waits(self, walks: int, work: int) -> None:
        """So many walks wait, and so much work is to be done."""
        self._waiting.set(walks)
        self._queued.set(work)

    def idle(self) -> None:
        """There is no run any more."""
        self._occupancy.set(0)


class GraphMetrics:
    """What the graph counts of the stages' replicas."""

    def __init__(self) -> None:
        tag = ("stage",)
        self._lost = Counter(
            "latentworks_replicas_lost_total", "calls whose replica stopped while it worked on them", tag_keys=tag
        )
        self._given_up = Counter(
            "latentworks_given_up_total", "calls given up, as replicas stopped one after the other", tag_keys=tag
        )
        self._non_finite = Counter(
            "latentworks_non_finite_images_total",
            "pictures that came out not finite or of one colour; the denoiser's where its latents were not finite",
            tag_keys=("stage", "version"),
        )
        self._shadows = Counter(
            "latentworks_shadow_decodes_total",
            "pictures decoded once more by a candidate: compared, no_picture, failed, or dropped as too many",
            tag_keys=("version", "outcome"),
        )
        self._not_kept = Counter(
            "latentworks_latents_not_kept_total", "pictures whose latents were to be kept and could not be"
        )

    def lost(self, stage: str) -> None:
        """A replica stopped while it worked on a call."""
        self._lost.inc(tags={"stage": stage})

    def given_up(self, stage: str) -> None:
        """A call is not tried again."""
        self._given_up.inc(tags={"stage": stage})

    def no_picture(self, stage: str, pin: ComponentRef) -> None:
        """A version of a stage made no picture."""
        self._non_finite.inc(tags={"stage": stage, **_version(pin)})

    def shadowed(self, pin: ComponentRef, outcome: str, pictures: int = 1) -> None:
        """Pictures were decoded once more by a candidate, or would have been."""
        self._shadows.inc(pictures, tags={**_version(pin), "outcome": outcome})

    def not_kept(self) -> None:
        """A picture's latents could not be kept."""
        self._not_kept.inc()


class StoreMetrics:
    """What a store counts; `kept` names what it keeps: latents, or the pictures of links."""

    def __init__(self, kept: Literal["latents", "pictures"]) -> None:
        self._kept = Gauge(f"latentworks_{kept}_kept", f"{kept} kept")
        self._bytes = Gauge(f"latentworks_{kept}_bytes", "what they take, in whole blocks")
        self._dropped = Counter(f"latentworks_{kept}_dropped_total", f"{kept} kept no more", tag_keys=("reason",))

    def holds(self, count: int, size: int) -> None:
        """So many are kept, in so many bytes."""
        self._kept.set(count)
        self._bytes.set(size)

    def dropped(self, reason: str) -> None:
        """One went: expired, full or damaged."""
        self._dropped.inc(tags={"reason": reason})


class JobMetrics:
    """What the jobs' replica counts."""

    def __init__(self) -> None:
        self._jobs = Gauge("latentworks_jobs", "jobs kept, by what has become of them", tag_keys=("status",))
        self._bytes = Gauge("latentworks_jobs_bytes", "what their requests and pictures take")
        self._over = Counter("latentworks_jobs_ended_total", "jobs that have ended", tag_keys=("status",))
        self._dropped = Counter("latentworks_jobs_dropped_total", "jobs kept no more", tag_keys=("reason",))
        self._webhooks = Counter(
            "latentworks_webhooks_total", "attempts to tell a webhook of a job's end", tag_keys=("outcome",)
        )
        self._version_requests = _version_requests()

    def holds(self, counts: Mapping[JobStatus, int], size: int) -> None:
        """So many jobs of each status are kept, in so many bytes."""
        for status, count in counts.items():
            self._jobs.set(count, tags={"status": status})
        self._bytes.set(size)

    def over(self, status: JobStatus) -> None:
        """A job has ended."""
        self._over.inc(tags={"status": status})

    def dropped(self, reason: str, count: int) -> None:
        """So many jobs went: expired or full."""
        self._dropped.inc(count, tags={"reason": reason})

    def told(self, outcome: str) -> None:
        """A webhook was told, or not: delivered, failed or given_up."""
        self._webhooks.inc(tags={"outcome": outcome})

    def took_part(self, stage: str, version: str, outcome: str) -> None:
        """A version took part in a job's request: ok, error or non_finite."""
        self._version_requests.inc(tags={"stage": stage, "version": version, "outcome": outcome})


def _version_requests() -> Counter:
    return Counter(
        "latentworks_version_requests_total",
        "requests that a version took part in, by how they ended: ok, error or non_finite",
        tag_keys=("stage", "version", "outcome"),
    )


def _version(pin: ComponentRef) -> dict[str, str]:
    return {"version": str(pin)}


class RolloutMetrics:
    """What the rollout controller counts."""

    def __init__(self) -> None:
        self._away = Gauge(
            "latentworks_registry_away_seconds", "how long the registry has not answered, 0 while it does"
        )
        self._rollouts = Counter("latentworks_rollouts_total", "plans followed to their end", tag_keys=("outcome",))
        self._rolled_back = Counter("latentworks_canaries_rolled_back_total", "canaries that ended by themselves")

    def away(self, seconds: float) -> None:
        """The registry has not answered for so long."""
        self._away.set(seconds)

    def rolled_out(self, outcome: str) -> None:
        """A plan came to its end: live or stopped."""
        self._rollouts.inc(tags={"outcome": outcome})

    def canary_rolled_back(self) -> None:
        """A canary did too badly."""
        self._rolled_back.inc()
