"""What a shadow showed, as a run of MLflow: one metric for each picture's PSNR and time."""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from components.reference import ComponentRef
from registry.registry import Registry

EXPERIMENT = "latentworks.shadow"
_MOST_AT_ONCE = 900


def log_shadow(
    registry: Registry, ref: ComponentRef, run: str | None, first: int, pictures: Sequence[Mapping[str, float]]
) -> str:
    """Add the figures of some pictures, the first of which is picture `first` of the run; without one it is made.

    Raises:
        RegistryError: MLflow does not answer.
    """
    from mlflow.entities import Metric

    with registry.asking() as client:
        if run is None:
            experiment = registry.experiment(EXPERIMENT)
            tags = {"component": ref.name, "version": str(ref.version)}
            run = str(client.create_run(experiment, run_name=str(ref), tags=tags).info.run_id)
        now = int(time.time() * 1000)
        metrics = (Metric(name, value, now, step) for name, value, step in _points(first, pictures))
        while some := list(islice(metrics, _MOST_AT_ONCE)):
            client.log_batch(run, metrics=some)
    return run


def _points(first: int, pictures: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, float, int]]:
    for step, figures in enumerate(pictures, first):
        for name, value in figures.items():
            yield name, value, step
