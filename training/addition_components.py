"""The components of what is added to the bundled model, from its released weights."""

from pathlib import Path

from exporters.adapter import export_adapter
from exporters.alone import AloneOptions
from exporters.bundle import BundleOptions, export_bundle
from training import checkpoint, upscaler
from training.release import BUNDLE, LICENCE

SOURCE = "python -m training"
X4 = "emoji-x4"
EDGES_COMPONENT = "adapter-edges"


def export_edges(weights: Path, models: Path) -> None:
    """Make the component of an edge adapter beside those of the bundled model below `models`, whose denoiser it is for.

    Raises:
        ComponentError: the bundled model has no denoiser.
        ExportError: the denoiser takes no adapter, or the component is not exact.
    """
    bundle, run = models / BUNDLE, checkpoint.history(weights).run
    options = AloneOptions(source=SOURCE, licence=LICENCE, training_run=run)
    export_adapter(weights, bundle / "denoiser", bundle / EDGES_COMPONENT, options)


def export_x4(weights: Path, models: Path) -> None:
    """Make the four components of a checkpoint of emoji-x4 below `models`.

    Raises:
        ExportError: a component is not exact.
    """
    options = BundleOptions(
        X4,
        source=SOURCE,
        licence=LICENCE,
        training_run=checkpoint.history(weights).run,
        guidance=upscaler.GUIDANCE,
    )
    export_bundle(weights, models / X4, options)
