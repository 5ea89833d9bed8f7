"""Every metric of ours; Prometheus shows each with Ray's prefix, `ray_latentworks_...`."""

from ray.util.metrics import Counter, Gauge, Histogram

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
        self._evaluations = Counter("latentworks_denoiser_evaluations_total", "U-Net evaluations", tag_keys=tags)
        self._open_seconds = Histogram(
            "latentworks_open_seconds", "fetch, check, open and warm up a version", boundaries=_SECONDS, tag_keys=tags
        )

    def worked(self, version: str, seconds: float) -> None:
        """One call was done."""
        self._seconds.observe(seconds, tags=self._tags(version))

    def failed(self, version: str) -> None:
        """One call raised."""
        self._failures.inc(tags=self._tags(version))

    def abandoned(self, version: str) -> None:
        """One call was given up because nobody waits for it."""
        self._abandoned.inc(tags=self._tags(version))

    def evaluated(self, version: str) -> None:
        """The denoiser answered one query."""
        self._evaluations.inc(tags=self._tags(version))

    def opened(self, version: str, seconds: float) -> None:
        """A version was opened."""
        self._open_seconds.observe(seconds, tags=self._tags(version))

    def _tags(self, version: str) -> dict[str, str]:
        return {"stage": self._stage, "version": version}
