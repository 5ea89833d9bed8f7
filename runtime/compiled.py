"""A component folder whose graph has a copy tuned for this machine, and what such a copy depends on."""

from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from components.folder import ComponentFolder

COMPILED_GRAPH = "model.onnx"
COMPILED_WEIGHTS = "model.onnx.data"

# a constant below it stays in the graph, as the exporters keep it
EXTERNAL_BYTES = 1024


@dataclass(frozen=True, slots=True)
class CompiledFolder(ComponentFolder):
    """A component folder with the folder `copy` of its main graph as compiled for this machine; sessions open that one.

    `lease` is kept for as long as a session of it lives, and may be anything.
    """

    copy: Path
    lease: object = None


def recipe() -> dict[str, str]:
    """What a compiled copy depends on besides the component and the CPU; a copy by another recipe is of no use."""
    return {
        "onnxruntime": ort.__version__,
        "optimised": "all",
        "prepacked": "saved",
        "external_bytes": str(EXTERNAL_BYTES),
    }
