"""The outer layers of SD 1.5's U-Net, with random weights: a network that takes less time than the whole one.

What surrounds a run does not depend on what the graph computes, only on the shapes of its inputs and outputs; so the
work outside `session.run` over the run of a part of the network is the most that it can be over the run of the whole.
"""

from pathlib import Path

from benchmarks.graph_builder import GraphBuilder
from benchmarks.sd15 import CHANNELS, WIDTH, write_component
from components.folder import ComponentFolder

HIDDEN, TIME, RESNETS = 320, 1280, 2


def write_outer_layers(path: Path) -> ComponentFolder:
    """Write a denoiser into an empty folder: SD 1.5's inputs and outputs, and its layers at the latents' own size.

    These are the time embedding, the first convolution, the two residual blocks on the way down, two of the three on
    the way up, all at 320 channels without their norms, the keys of their cross-attentions, which are averaged and
    added where the real ones attend to them, and the last convolution.
    """
    graph = GraphBuilder()
    time = _time(graph)
    hidden = graph.conv("latents", CHANNELS, HIDDEN)
    skips = []
    for _ in range(RESNETS):
        skips.append(hidden)
        hidden = _attended(graph, _resnet(graph, hidden, HIDDEN, time))
    while skips:
        joined = graph.node("Concat", hidden, skips.pop(), axis=1)
        hidden = _attended(graph, _resnet(graph, joined, 2 * HIDDEN, time))
    graph.node("Identity", graph.conv(graph.silu(hidden), HIDDEN, CHANNELS), output="prediction")
    return write_component(path, graph, "outer_layers")


def _time(graph: GraphBuilder) -> str:
    column = graph.node("Reshape", "timestep", graph.shape(-1, 1))
    waves = graph.node("Sin", graph.matmul(column, 1, HIDDEN))
    return graph.silu(graph.matmul(graph.silu(graph.matmul(waves, HIDDEN, TIME)), TIME, TIME))


def _resnet(graph: GraphBuilder, hidden: str, channels: int, time: str) -> str:
    moment = graph.node("Reshape", graph.matmul(time, TIME, HIDDEN), graph.shape(-1, HIDDEN, 1, 1))
    first = graph.node("Add", graph.conv(graph.silu(hidden), channels, HIDDEN), moment)
    shortcut = hidden if channels == HIDDEN else graph.conv(hidden, channels, HIDDEN, side=1)
    return graph.node("Add", shortcut, graph.conv(graph.silu(first), HIDDEN, HIDDEN))


def _attended(graph: GraphBuilder, hidden: str) -> str:
    keys = graph.node("ReduceMean", graph.matmul("hidden_states", WIDTH, HIDDEN), graph.shape(1), keepdims=0)
    return graph.node("Add", hidden, graph.node("Reshape", keys, graph.shape(-1, HIDDEN, 1, 1)))
