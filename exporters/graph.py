"""torch to ONNX: the graph of a network, made ready for ONNX Runtime's CPU kernels."""

import logging
import warnings
from collections.abc import Mapping

import onnx_ir as ir
import torch
from onnxscript.rewriter.ort_fusions import optimize_for_ort

from components.contract import Kind, TensorSpec
from exporters.batch_invariance import move_inner_means
from exporters.errors import ExportError
from exporters.network import Network

OPSET = 20
# Only where it was measured to help (docs/exporting.md).
_FUSED = frozenset({Kind.DENOISER})


def export_graph(network: Network) -> ir.Model:
    """Trace the network by torch.export and translate it, with open dimensions where the contract has names.

    Raises:
        ExportError: torch cannot trace the network, or only for fixed sizes.
    """
    inputs = network.arrays(network.trials.traced, seed=0)
    open_dimensions = tuple(_open_dimensions(spec) for spec in network.contract.inputs)
    # torch speaks of packages that are not there, and of its own deprecations
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                network.module,
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=[spec.name for spec in network.contract.outputs],
                dynamic_shapes=open_dimensions,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(f"{network.contract.kind}: torch cannot export it: {type(error).__name__}") from error
    assert program is not None
    model = program.model
    move_inner_means(model)
    if network.contract.kind in _FUSED:
        model, _ = optimize_for_ort(model)
    return model


def _open_dimensions(spec: TensorSpec) -> Mapping[int, object]:
    return {axis: torch.export.Dim.DYNAMIC for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
