"""torch to ONNX: the graph of a network, made ready for ONNX Runtime's CPU kernels."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import Parameter, signature

import onnx_ir as ir
import torch
from onnxscript.rewriter.ort_fusions import optimize_for_ort
from torch import nn

from components.contract import Kind, TensorSpec
from exporters.batch_invariance import pool_inner_means
from exporters.errors import ExportError
from exporters.network import Network
from exporters.optional_inputs import declare_optional
from exporters.traced_defaults import make_inputs, told_apart
from exporters.wide_norms import split_norms

OPSET = 20
# Only where it was measured to help (docs/exporting.md).
_FUSED = frozenset({Kind.DENOISER})
# those that see all pixels of a picture
_WIDE = frozenset({Kind.VAE_DECODER, Kind.VAE_ENCODER})


def export_graph(network: Network) -> ir.Model:
    """Trace the network by torch.export and translate it, with open dimensions where the contract has names.

    Raises:
        ExportError: torch cannot trace the network, or only for fixed sizes.
    """
    with _quiet():
        try:
            program = _trace(network)
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(f"{network.contract.kind}: torch cannot export it: {_reason(error)}") from error
    model = program.model
    make_inputs(model, network.traced_defaults)
    pool_inner_means(model)
    if network.contract.kind in _WIDE:
        split_norms(model)
    if network.contract.kind in _FUSED:
        model, _ = optimize_for_ort(model)
    _forget_origins(model)
    declare_optional(model, network.contract.inputs)
    return model


def _trace(network: Network) -> torch.onnx.ONNXProgram:
    defaults = network.traced_defaults
    specs = [spec for spec in network.contract.inputs if spec not in defaults]
    inputs = network.arrays(network.trials.traced, seed=0)
    with told_apart(network.module, defaults):
        program = torch.onnx.export(
            network.module,
            tuple(inputs[spec.name] for spec in specs),
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.name for spec in specs],
            output_names=[spec.name for spec in network.contract.outputs],
            dynamic_shapes=_dynamic_shapes(network.module, specs),
            verbose=False,
        )
    assert program is not None, "dynamo gives a program"
    return program


def _forget_origins(model: ir.Model) -> None:
    """Take out where each node came from: torch writes stack traces with the paths of this machine."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep off the screen what torch says of packages that are not there and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The first line of what began it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _dynamic_shapes(module: nn.Module, specs: Sequence[TensorSpec]) -> tuple[object, ...]:
    """The open dimensions of each parameter of the module; those of one that takes any number are a tuple."""
    shapes = [_open_dimensions(spec) for spec in specs]
    kinds = [parameter.kind for parameter in signature(module.forward).parameters.values()]
    single = kinds.index(Parameter.VAR_POSITIONAL) if Parameter.VAR_POSITIONAL in kinds else len(shapes)
    return (*shapes[:single], tuple(shapes[single:])) if shapes[single:] else tuple(shapes)


def _open_dimensions(spec: TensorSpec) -> Mapping[int, object]:
    return {axis: torch.export.Dim.DYNAMIC for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
