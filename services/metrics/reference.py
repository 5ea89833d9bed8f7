"""`python -m services.metrics.reference FILE`: the page that lists every metric, made from the catalogue."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from components.contract import ALL_PARTS, BESIDE
from services.metrics.catalogue import GROUPS, metrics_of
from services.metrics.declared import PREFIX, Histogram, Metric

_INTRODUCTION = """\
# Metrics

Written by `make docs` from `services/metrics/catalogue.py`. `/metrics` is the Prometheus page of the node that answers,
with the figures of every process on it; on a cluster let Prometheus ask every node's Ray agent (KubeRay names its port
`metrics`). Grafana shows them by [the dashboard](../k8s/grafana/latentworks.json): import it and choose a Prometheus.

A `version` is a component's name and number, as in `emoji.vae_decoder/3`, and a `stage` one of {stages}. Every sample
carries Ray's labels too, such as `NodeAddress`, `WorkerId` (the process) and `Version` (Ray's own), and Prometheus adds
those of the place where it asked, such as `namespace` on Kubernetes.

A histogram is `_bucket`, `_sum` and `_count`. Ray adds up `_sum` from the middle of each bucket: a mean made of it is
rough, quantiles are as fine as the buckets. A series is there from its first sample on. A gauge goes with its process;
a counter of a process that has ended stays on its node's page.
"""


def page() -> str:
    """The whole page, in Markdown."""
    stages = ", ".join(f"`{kind}`" for kind in (*ALL_PARTS, *BESIDE))
    parts = [_INTRODUCTION.format(stages=stages)]
    for group in GROUPS:
        parts += [f"## {_title(group)}", inspect.cleandoc(group.__doc__ or ""), *_table(list(metrics_of(group)))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(metrics: list[Metric]) -> Iterator[str]:
    rows = [f"| `{PREFIX}{one.name}` | {one.kind} | {one.unit} | {_labels(one)} | {one.help} |" for one in metrics]
    yield "\n".join(["| metric | kind | unit | labels | what |", "|---|---|---|---|---|", *rows])
    for one in metrics:
        if isinstance(one, Histogram):
            yield f"Buckets of `{PREFIX}{one.name}`: {', '.join(f'{bound:g}' for bound in one.buckets)}."


def _title(group: type) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", lambda letter: f" {letter[1].lower()}", group.__name__)


def _labels(metric: Metric) -> str:
    # the stages are told once
    told = {label: () if label == "stage" else values for label, values in metric.labels.items()}
    return ", ".join(f"{label} ({', '.join(values)})" if values else label for label, values in told.items())


def main(file: Annotated[Path, typer.Argument(help="where the page goes")]) -> None:
    """Write the page."""
    file.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
