"""`python -m exporters.lora FILE --of COMPONENT --out DIR`: a LoRA becomes a component for single requests."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import typer

from components.contract import Contract, Kind
from components.errors import ComponentError
from components.folder import MAIN_GRAPH, ComponentFolder, record_files, write_manifest
from components.lora import adapted_layers, down_name, lora_differences, lora_specs, up_name
from components.manifest import GoldenCase, Manifest, Origin, Parity
from exporters.adapter_files import Lora
from exporters.component import exporter_versions, require_replaceable, summary
from exporters.errors import ExportError
from exporters.graph import OPSET
from exporters.storage import GRAPH_NAME, save
from runtime.errors import RuntimeFault
from runtime.golden import require_golden
from runtime.session import Session
from runtime.settings import SessionSettings

_IR_VERSION = 10
_GOLDEN_NAME = "golden-0.npz"


def export_lora(
    path: Path, of: Path, out: Path, *, licence: str | None = None, without_text_encoder: bool = False
) -> ComponentFolder:
    """Export the LoRA at `path` into `out`, for the denoiser at `of`, which must take LoRAs of requests.

    A component that is at `out` already is replaced once the new one is right. `without_text_encoder` leaves out what
    the LoRA adds to the text encoder.

    Raises:
        ComponentError: there is no component at `of`.
        ExportError: the file cannot be read, is no LoRA, adapts what the denoiser takes no LoRA for, or the text
            encoder, or a folder in the way is no component; nothing is replaced then.
    """
    require_replaceable(out)
    lora = Lora.read(path)
    if (lora.text_encoder or lora.text_encoder_2) and not without_text_encoder:
        raise ExportError(
            f"{path.name}: adapts the text encoder too, which no request can; merge it at export, or leave that part "
            "out with --without-text-encoder"
        )
    arrays = _arrays(lora)
    contract = _contract(lora)
    if differences := lora_differences(contract, ComponentFolder.open(of).manifest.contract):
        more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
        raise ExportError(f"{path.name}: does not fit {of.absolute().name}: {differences[0]}{more}")
    # beside `out`, so that a rename brings it there
    partial = out.absolute().with_name(f".{out.absolute().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        save(_graph(arrays), partial)
        np.savez_compressed(partial / _GOLDEN_NAME, **{f"output.{name}": array for name, array in arrays.items()})  # type: ignore[arg-type] # its stub takes the names for flags
        manifest = Manifest(
            contract=contract,
            graphs={MAIN_GRAPH: GRAPH_NAME},
            weights="float16",
            files=record_files(partial),
            golden=(GoldenCase(file=_GOLDEN_NAME, tolerance=1e-6),),
            parity=Parity(max_absolute_error=0, shapes={}),
            origin=Origin(source=path.name, licence=licence, exporter=exporter_versions()),
        )
        written = write_manifest(partial, manifest)
        require_golden(Session.open(written, SessionSettings(provider="cpu")), written)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ComponentFolder.open(out)


def _contract(lora: Lora) -> Contract:
    return Contract(
        kind=Kind.LORA,
        inputs=(),
        outputs=tuple(
            spec
            for name, layer in lora.unet.items()
            for spec in lora_specs(name, layer.down.shape[1], len(layer.up), batch=1, rank=layer.rank)
        ),
    )


def _arrays(lora: Lora) -> dict[str, npt.NDArray[np.float32]]:
    """Every array in the values that are stored; a layer's scale is within `up`."""
    arrays = {}
    for name, layer in lora.unet.items():
        if layer.down.ndim != 2:
            raise ExportError(
                f"{lora.path.name}: {name} is a convolution, which no request can adapt; merge it at export"
            )
        arrays[down_name(name)] = layer.down[None].half().float().numpy()
        arrays[up_name(name)] = (layer.scale * layer.up)[None].half().float().numpy()
    return arrays


def _graph(arrays: Mapping[str, npt.NDArray[np.float32]]) -> ir.Model:
    """A graph without inputs that gives the arrays, stored as float16."""
    nodes, stored = [], []
    for name, array in arrays.items():
        half = array.astype(np.float16)
        value = ir.Value(name=f"{name}_float16", const_value=ir.tensor(half, name=f"{name}_float16"))
        node = ir.node("Cast", [value], attributes={"to": ir.DataType.FLOAT}, name=f"{name}_cast")
        node.outputs[0].name, node.outputs[0].dtype = name, ir.DataType.FLOAT
        node.outputs[0].shape = ir.Shape(array.shape)
        nodes.append(node)
        stored.append(value)
    graph = ir.Graph(
        [],
        [node.outputs[0] for node in nodes],
        nodes=nodes,
        initializers=stored,
        opset_imports={"": OPSET},
        name="lora",
    )
    return ir.Model(graph, ir_version=_IR_VERSION)


def main(
    file: Annotated[Path, typer.Argument(help="the LoRA, a .safetensors file")],
    of: Annotated[Path, typer.Option(help="the denoiser's component, exported with --lora-inputs")],
    out: Annotated[Path, typer.Option(help="where the component folder goes")],
    licence: Annotated[str | None, typer.Option(help="the licence of the weights, for component.json")] = None,
    without_text_encoder: Annotated[bool, typer.Option(help="leave out what it adds to the text encoder")] = False,
) -> None:
    """Export a LoRA that requests can name."""
    try:
        folder = export_lora(file, of, out, licence=licence, without_text_encoder=without_text_encoder)
    except (ComponentError, ExportError, RuntimeFault) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{summary(folder)}; adapts {len(adapted_layers(folder.manifest.contract.outputs))} layers")


if __name__ == "__main__":
    typer.run(main)
