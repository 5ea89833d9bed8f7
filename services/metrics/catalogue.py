"""Every metric of ours, by who records it; the page docs/metrics.md is made of this."""

from collections.abc import Iterator

from components.contract import ALL_PARTS, BESIDE, Kind
from services.metrics.declared import Counter, Gauge, Histogram, Labels, Metric

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_DROPPED: Labels = {"reason": ("expired", "full", "damaged")}
_ENDED = ("completed", "failed", "cancelled")
_VERSION: Labels = {"version": ()}
_STAGE: Labels = {"stage": tuple(kind.value for kind in (*ALL_PARTS, *BESIDE))}
_BOTH: Labels = {**_STAGE, **_VERSION}
# what runs in the denoiser's replicas
_IN_RUNS = (Kind.DENOISER, Kind.CONTROLNET, Kind.LORA)


class Ingress:
    """Each replica of the ingress; the requests of jobs are counted by version in the jobs' replica."""

    REQUESTS = Counter(
        "latentworks_requests_total",
        "HTTP requests answered, by the pattern of their path; status 499: the client went away",
        {"route": (), "method": (), "status": ()},
    )
    REQUEST_SECONDS = Histogram(
        "latentworks_request_seconds",
        "from the first byte read to the last byte sent",
        {"route": ()},
        "seconds",
        buckets=_SECONDS,
    )
    VERSION_REQUESTS = Counter(
        "latentworks_version_requests_total",
        "requests that a version took part in, by how they ended; those too that ask for versions by `components`, "
        "which say nothing for or against a canary. The VAE encoder's are counted by latentworks_stage_seconds alone",
        {
            "stage": tuple(kind.value for kind in ALL_PARTS if kind != Kind.VAE_ENCODER),
            **_VERSION,
            "outcome": ("ok", "error", "non_finite"),
        },
    )
    IMAGES = Counter("latentworks_images_total", "pictures sent", {"format": ("png", "jpeg", "webp")})
    TRUNCATED_PROMPTS = Counter(
        "latentworks_truncated_prompts_total",
        "prompts cut at the token limit",
        {"field": ("prompt", "negative_prompt")},
    )
    ADMITTED_IMAGES = Gauge("latentworks_admitted_images", "pictures admitted and not answered yet")
    REFUSED = Counter(
        "latentworks_refused_total",
        "requests turned away with 429 or 503",
        {"reason": ("too_many_requests", "service_unavailable")},
    )
    KEYS = Gauge("latentworks_keys", "keys that are let in; 0 where none are asked for")
    KEYS_FILE_REFUSED = Gauge(
        "latentworks_keys_file_refused", "1 while the newest `keys.file` cannot be used, and the keys before stay"
    )


class Stages:
    """Each replica of a stage; ControlNets are in those of the denoiser, whose walks have their time.

    Phases of calls are counted in the graph too.
    """

    SECONDS = Histogram(
        "latentworks_stage_seconds",
        "one call's work in a stage; in the denoiser a whole walk with its waiting",
        _BOTH,
        "seconds",
        buckets=_SECONDS,
    )
    PHASE_SECONDS = Histogram(
        "latentworks_phase_seconds",
        "where the time of a call goes. queue: until a replica has taken it, which takes as many at a time as it has "
        "threads; in the denoiser all waiting of a walk that came to its end, before its first run and between runs. "
        "load: fetching and opening a version that was not held, also ahead of any call. run: a thread's work on the "
        "call, in the network and around it; in the denoiser the runs that a walk shared, with the samplers' work. "
        "transfer: the way of the answer to the graph, as what is left from when a replica has taken the call and is "
        "no time in the replica. The way of the inputs cannot be told from queue",
        {**_BOTH, "phase": ("queue", "load", "run", "transfer")},
        "seconds",
        buckets=(0.001, 0.002, *_SECONDS),
    )
    OCCUPANCY = Gauge(
        "latentworks_stage_occupancy",
        "calls that a replica works on by a version, with those that wait for it to be opened, as a share of "
        "`max_ongoing_requests`; of the denoiser see latentworks_denoiser_occupancy",
        {"stage": tuple(kind.value for kind in (*ALL_PARTS, *BESIDE) if kind not in _IN_RUNS), **_VERSION},
        "ratio",
    )
    FAILURES = Counter("latentworks_stage_failures_total", "calls that failed in a stage", _BOTH)
    ABANDONED = Counter("latentworks_stage_abandoned_total", "calls whose caller went away", _BOTH)
    OPEN_SECONDS = Histogram(
        "latentworks_open_seconds",
        "open and warm up a version whose files are here",
        _BOTH,
        "seconds",
        buckets=_SECONDS,
    )
    COMPILED_COPIES = Counter(
        "latentworks_compiled_copies_total",
        "openings, by what became of the compiled copy; all but hit and built opened the plain model",
        {
            **_BOTH,
            "outcome": ("hit", "built", "building", "small", "provider", "disk", "failed", "damaged", "off"),
        },
    )
    VERSIONS_HELD = Gauge("latentworks_versions_held", "versions that a replica holds open", _STAGE)
    VERSIONS_HELD_BYTES = Gauge(
        "latentworks_versions_held_bytes",
        "weights of a version that a replica holds open, as they are computed with; 0 once it is let go of",
        _BOTH,
        "bytes",
    )


class TextEncoder:
    """Each replica of the text encoder."""

    CACHE = Counter(
        "latentworks_conditioning_cache_total",
        "texts looked up before they are encoded, as texts that come again are not",
        {**_VERSION, "outcome": ("hit", "miss")},
    )
    CACHE_BYTES = Gauge(
        "latentworks_conditioning_cache_bytes",
        "conditioning that a replica keeps, of all its versions; `text_encoder.cache_bytes` bounds that of each",
        unit="bytes",
    )


class Denoiser:
    """The step loop of each replica of the denoiser."""

    ROWS = Histogram(
        "latentworks_denoiser_rows",
        "rows of a U-Net run; the other stages run one text or picture at a time",
        _VERSION,
        buckets=(1, 2, 3, 4, 6, 8, 12, 16, 32),
    )
    RUNS = Counter("latentworks_denoiser_runs_total", "U-Net runs", _VERSION)
    RUN_SECONDS = Histogram(
        "latentworks_denoiser_run_seconds",
        "one U-Net run, with the samplers' work before and after it",
        _VERSION,
        "seconds",
        buckets=_SECONDS,
    )
    EVALUATIONS = Counter("latentworks_denoiser_evaluations_total", "answers to samplers", _VERSION)
    WASTED = Counter(
        "latentworks_denoiser_evaluations_wasted_total", "evaluations of walks that were given up", _VERSION
    )
    QUEUE_SECONDS = Histogram(
        "latentworks_denoiser_queue_seconds",
        "from a walk's arrival at the replica to its first run, a version that must be opened included",
        _VERSION,
        "seconds",
        buckets=_SECONDS,
    )
    RUNS_WAITED = Histogram(
        "latentworks_denoiser_runs_waited",
        "runs that began between a walk's arrival and its first; `free_row`: whether there was room when it came",
        {**_VERSION, "free_row": ("true", "false")},
        buckets=(0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5),
    )
    ADMITTED = Counter("latentworks_denoiser_admitted_total", "walks admitted", _VERSION)
    REFUSED = Counter(
        "latentworks_denoiser_refused_total",
        "walks refused",
        {**_VERSION, "reason": ("overloaded", "deadline", "limits")},
    )
    CANCELLED = Counter(
        "latentworks_denoiser_cancelled_total", "walks given up", {**_VERSION, "reason": ("caller_left", "deadline")}
    )
    SPLIT_RUNS = Counter(
        "latentworks_denoiser_split_runs_total",
        "runs that failed for all their rows together, as where memory ran out, and were done again picture by "
        "picture: a smaller `denoiser.run_rows` would be faster",
        _VERSION,
    )
    OCCUPANCY = Gauge(
        "latentworks_denoiser_occupancy",
        "rows of the newest run, as a share of `denoiser.run_rows`; 0 without one",
        unit="ratio",
    )
    WAITING = Gauge("latentworks_denoiser_waiting", "walks that wait for a run, in a replica")
    QUEUED = Gauge(
        "latentworks_denoiser_queued",
        "work to be done in a replica, in rows times latent pixels times evaluations",
    )


class Graph:
    """Each replica of the graph, of the stages that it calls."""

    LOST = Counter("latentworks_replicas_lost_total", "calls whose replica stopped while it worked on them", _STAGE)
    GIVEN_UP = Counter("latentworks_given_up_total", "calls given up, as replicas stopped one after the other", _STAGE)
    HELD = Gauge("latentworks_held_requests", "requests that wait for the first replica of a stage to start", _STAGE)
    START_SECONDS = Histogram(
        "latentworks_start_seconds",
        "from the first request held for a stage without replicas until one answered",
        _STAGE,
        "seconds",
        buckets=_SECONDS,
    )
    SENT_BYTES = Counter(
        "latentworks_sent_bytes_total",
        "arrays in the answers that stages sent: conditioning, latents, pixels; of the denoiser a walk's last latents",
        _BOTH,
        "bytes",
    )
    NON_FINITE = Counter(
        "latentworks_non_finite_images_total",
        "pictures that a version of the VAE decoder gave not finite or of one colour; stage denoiser where its latents "
        "were not finite",
        _BOTH,
    )
    SHADOWS = Counter(
        "latentworks_shadow_decodes_total",
        "pictures decoded once more by a candidate; dropped: `graph.shadows` answers were under way",
        {**_VERSION, "outcome": ("compared", "no_picture", "failed", "dropped")},
    )
    LATENTS_NOT_KEPT = Counter(
        "latentworks_latents_not_kept_total", "pictures whose latents were to be kept and could not be"
    )


class Stores:
    """The one replica that keeps [latents](latents.md), and pictures for their links."""

    LATENTS_KEPT = Gauge("latentworks_latents_kept", "latents kept")
    LATENTS_BYTES = Gauge("latentworks_latents_bytes", "what kept latents take, in whole blocks", unit="bytes")
    LATENTS_DROPPED = Counter(
        "latentworks_latents_dropped_total", "latents kept no more; full: the oldest made room", _DROPPED
    )
    PICTURES_KEPT = Gauge("latentworks_pictures_kept", "pictures kept for their links")
    PICTURES_BYTES = Gauge("latentworks_pictures_bytes", "what kept pictures take, in whole blocks", unit="bytes")
    PICTURES_DROPPED = Counter(
        "latentworks_pictures_dropped_total", "pictures kept no more; full: the oldest made room", _DROPPED
    )


class Jobs:
    """The one replica that keeps and draws [jobs](jobs.md)."""

    JOBS = Gauge(
        "latentworks_jobs",
        "jobs kept, by what has become of them",
        {"status": ("queued", "generating", *_ENDED)},
    )
    BYTES = Gauge("latentworks_jobs_bytes", "what the requests and pictures of jobs take on disk", unit="bytes")
    OVER = Counter("latentworks_jobs_ended_total", "jobs that have ended", {"status": _ENDED})
    DROPPED = Counter(
        "latentworks_jobs_dropped_total",
        "jobs kept no more; full: those that ended first made room; unreadable: another release wrote them",
        {"reason": ("expired", "full", "unreadable")},
    )
    WEBHOOKS = Counter(
        "latentworks_webhooks_total",
        "attempts to tell a webhook of a job's end",
        {"outcome": ("delivered", "failed", "given_up")},
    )


class Rollout:
    """The one replica of the [rollout](rollout.md) controller, which asks the registry."""

    LIVE_VERSION = Gauge(
        "latentworks_live_version",
        "1 for the version that new requests are pinned to, but those that a canary takes or that ask for another; "
        "0 for one that was it and is no more",
        _BOTH,
    )
    AWAY_SECONDS = Gauge(
        "latentworks_registry_away_seconds",
        "how long the registry has not answered; 0 while it does",
        unit="seconds",
    )
    ROLLOUTS = Counter("latentworks_rollouts_total", "plans followed to their end", {"outcome": ("live", "stopped")})
    ROLLED_BACK = Counter("latentworks_canaries_rolled_back_total", "canaries that ended by themselves")


GROUPS: tuple[type, ...] = (Ingress, Stages, TextEncoder, Denoiser, Graph, Stores, Jobs, Rollout)


def metrics_of(group: type) -> Iterator[Metric]:
    """The metrics of one group, in their order."""
    return (metric for metric in vars(group).values() if isinstance(metric, Metric))


METRICS: dict[str, Metric] = {metric.name: metric for group in GROUPS for metric in metrics_of(group)}
