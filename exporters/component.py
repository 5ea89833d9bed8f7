"""Writing a network as a component folder."""

import shutil
from importlib.metadata import version
from pathlib import Path

from components.contract import Kind
from components.folder import MAIN_GRAPH, TOKENIZER_NAME, ComponentFolder, record_files, write_manifest
from components.manifest import Manifest, Origin
from exporters.graph import export_graph
from exporters.network import Network
from exporters.parity import measure, write_golden_cases
from exporters.storage import GRAPH_NAME, Weights, round_weights, save, store_halves
from runtime.golden import require_golden
from runtime.session import Session
from runtime.settings import SessionSettings

_EXPORTERS = ("torch", "diffusers", "transformers", "onnxscript", "onnx-ir")


def write_component(
    network: Network, folder: Path, *, weights: Weights, source: str, licence: str | None, tokenizer: str | None = None
) -> ComponentFolder:
    """Export a network into `folder`, replacing what is there only when everything is right.

    `tokenizer` is the content of a text encoder's `tokenizer.json`.

    Raises:
        ExportError: it cannot be exported, or is not exact.
        RuntimeFault: the written component does not keep its contract or fails its golden cases.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write(network, partial, weights, Origin(source=source, licence=licence, exporter=_versions()), tokenizer)
        _swap(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ComponentFolder.open(folder)


def _write(network: Network, folder: Path, weights: Weights, origin: Origin, tokenizer: str | None) -> None:
    round_weights(network.module, weights)
    model = export_graph(network)
    if weights == "float16":
        store_halves(model)
    save(model, folder)
    del model
    parity = measure(network, folder / GRAPH_NAME)
    golden = write_golden_cases(network, folder)
    if network.contract.kind == Kind.TEXT_ENCODER:
        assert tokenizer is not None, "a text encoder comes with its tokenizer"
        (folder / TOKENIZER_NAME).write_text(tokenizer, encoding="utf-8")
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


def _swap(partial: Path, folder: Path) -> None:
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)


def _versions() -> dict[str, str]:
    return {package: version(package) for package in _EXPORTERS}
