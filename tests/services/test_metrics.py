"""The table of figures in docs/serving.md against the code."""

import re
from pathlib import Path

from ray.util.metrics import Counter, Gauge, Histogram

from services.metrics import (
    CacheMetrics,
    DenoiserMetrics,
    GraphMetrics,
    IngressMetrics,
    JobMetrics,
    RolloutMetrics,
    StageMetrics,
    StoreMetrics,
)

ROOT = Path(__file__).parents[2]


def test_every_metric_is_in_the_documents_with_its_labels() -> None:
    owners = (
        IngressMetrics(),
        StageMetrics("denoiser"),
        CacheMetrics(),
        DenoiserMetrics(),
        GraphMetrics(),
        StoreMetrics("latents"),
        StoreMetrics("pictures"),
        RolloutMetrics(),
        JobMetrics(),
    )
    made = [
        metric for owner in owners for metric in vars(owner).values() if isinstance(metric, Counter | Gauge | Histogram)
    ]
    rows = re.findall(
        r"^\| `ray_(\w+)` \|([^|]*)\|", (ROOT / "docs" / "serving.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    written = {name: {label.strip() for label in labels.split(",")} - {""} for name, labels in rows}
    assert written == {metric.info["name"]: set(metric.info["tag_keys"]) for metric in made}
