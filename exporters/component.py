"""Writing a network as a component folder."""

import gc
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from components.folder import MAIN_GRAPH, ComponentFolder, record_files, write_manifest
from components.manifest import MANIFEST_NAME, Manifest, Origin
from exporters.errors import ExportError
from exporters.graph import export_graph
from exporters.network import Network
from exporters.parity import evaluate, measure, write_golden_cases
from exporters.storage import GRAPH_NAME, Weights, forget_weights, round_weights, save, store_halves
from runtime.golden import require_golden
from runtime.session import Session
from runtime.settings import SessionSettings

_EXPORTERS = ("torch", "diffusers", "transformers", "onnxscript", "onnx-ir")


def write_component(
    network: Network, folder: Path, weights: Weights, origin: Origin, texts: Mapping[str, str] | None = None
) -> ComponentFolder:
    """Export a network into `folder`, which is made; `texts` are more files: a text encoder's tokenizers.

    The network's weights are gone afterwards.

    Raises:
        ExportError: it cannot be exported, or is not exact.
        RuntimeFault: the written component does not keep its contract or fails its golden cases.
    """
    folder.mkdir(parents=True)
    round_weights(network.module, weights)
    model = export_graph(network)
    if weights == "float16":
        store_halves(model)
    save(model, folder)
    del model
    # a graph is a cycle, and holds the halves
    gc.collect()
    by_torch = evaluate(network)
    golden = write_golden_cases(network, folder)
    # the session holds the weights, and both do not fit into the memory of many machines
    forget_weights(network.module)
    parity = measure(network.contract.kind, by_torch, folder / GRAPH_NAME)
    for name, content in ({} if texts is None else texts).items():
        (folder / name).write_text(content, encoding="utf-8")
    manifest = Manifest(
        contract=network.contract,
        graphs={MAIN_GRAPH: GRAPH_NAME},
        weights=weights,
        files=record_files(folder),
        golden=golden,
        parity=parity,
        origin=origin,
    )
    written = write_manifest(folder, manifest)
    require_golden(Session.open(written, SessionSettings(provider="cpu")), written)
    return written


def require_replaceable(folder: Path) -> None:
    """Refuse to put a component in the place of something else, such as the checkpoint itself.

    Raises:
        ExportError: `folder` is there and is no component.
    """
    place = folder.absolute()
    if place.exists() and not (place / MANIFEST_NAME).is_file():
        raise ExportError(f"{place.parent.name}/{place.name}: is there and is no component; choose another folder")


def summary(folder: ComponentFolder) -> str:
    """Its kind, size and parity, in words."""
    size = sum(record.size for record in folder.manifest.files.values()) / 1e6
    error = folder.manifest.parity.max_absolute_error
    return f"{folder.manifest.contract.kind}: {size:.1f} MB, off from torch by at most {error:.1e}"


def exporter_versions() -> dict[str, str]:
    """The packages that make a component, with their versions."""
    return {package: version(package) for package in _EXPORTERS}
