"""Optional inputs that a network is traced without: buffers that it adds, made inputs of the graph later.

A trace with such inputs would tie their sizes to those of latents, and read sizes from them where a default has others.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import onnx_ir as ir
import torch
from torch import nn

from components.contract import TensorSpec
from exporters.errors import ExportError


def register_defaults(module: nn.Module, specs: Iterable[TensorSpec]) -> None:
    """Give a module a buffer for each of its optional inputs, by its name: one zero, which every shape is added to."""
    for spec in specs:
        # +0 and not -0, as in rows that have no such input in a run with one that has
        module.register_buffer(spec.name, torch.zeros((1,) * len(spec.shape)))


@contextmanager
def told_apart(module: nn.Module, specs: Sequence[TensorSpec]) -> Iterator[None]:
    """Give the buffers values of their own meanwhile: the exporter makes one of those that are equal."""
    try:
        for number, spec in enumerate(specs, 1):
            module.get_buffer(spec.name).fill_(number)
        yield
    finally:
        for spec in specs:
            module.get_buffer(spec.name).zero_()


def make_inputs(model: ir.Model, specs: Iterable[TensorSpec]) -> None:
    """Make inputs of what the buffers became, in place.

    Raises:
        ExportError: a buffer is not in the graph, or does more than being added.
    """
    for spec in specs:
        value = model.graph.initializers.get(spec.name)
        if value is None or {use.node.op_type for use in value.uses()} != {"Add"}:
            raise ExportError(f"{spec.name}: the graph does not add it, and could not do without it")
        del model.graph.initializers[spec.name]
        value.const_value = None
        value.shape = ir.Shape([dim if isinstance(dim, int) else f"{spec.name}.{dim}" for dim in spec.shape])
        model.graph.inputs.append(value)
