"""SD 1.5's whole U-Net with random weights: as many parameters, in the same kinds of nodes, as a checkpoint's export.

The numbers in it change nothing in the time that it takes to open, to prepack and to run it, nor in its memory.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.graph_builder import GraphBuilder
from benchmarks.sd15 import CHANNELS, DATA, WIDTH, write_component
from components.folder import ComponentFolder

_GROUPS, _HEADS = 32, 8


@dataclass(frozen=True, slots=True)
class Geometry:
    """Channels of each level from the outside in, residual blocks of a level, levels that attend to the text."""

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    resnets: int = 2
    attending: int = 3

    @property
    def time(self) -> int:
        """The width of the time embedding."""
        return 4 * self.channels[0]


SD15 = Geometry()


def write_whole_unet(path: Path, geometry: Geometry = SD15) -> ComponentFolder:
    """Write a denoiser of 860 million parameters, 3.4 GB, into an empty folder; or a smaller one of the same plan."""
    graph = _UNet(path / DATA, geometry)
    graph.build()
    return write_component(path, graph, "unet")


class _UNet(GraphBuilder):
    def __init__(self, data: Path, geometry: Geometry) -> None:
        super().__init__(data)
        self._geometry = geometry

    def build(self) -> None:
        channels = self._geometry.channels
        time = self._time(channels[0])
        hidden = self.conv("latents", CHANNELS, channels[0], bias=True)
        hidden, skips = self._down(hidden, time)
        innermost = channels[-1]
        hidden = self._resnet(hidden, innermost, innermost, time)
        hidden = self._resnet(self._transformer(hidden, innermost), innermost, innermost, time)
        hidden = self._up(hidden, skips, time)
        last = self.silu(self._group_norm(hidden, channels[0]))
        self.node("Identity", self.conv(last, channels[0], CHANNELS, bias=True), output="prediction")

    def _time(self, width: int) -> str:
        column = self.node("Reshape", "timestep", self.shape(-1, 1))
        angles = self.matmul(column, 1, width // 2)
        waves = self.node("Concat", self.node("Cos", angles), self.node("Sin", angles), axis=-1)
        wide = self._geometry.time
        return self.silu(self.matmul(self.silu(self.matmul(waves, width, wide, bias=True)), wide, wide, bias=True))

    def _down(self, hidden: str, time: str) -> tuple[str, list[tuple[str, int]]]:
        geometry = self._geometry
        before = geometry.channels[0]
        skips = [(hidden, before)]
        for level, channels in enumerate(geometry.channels):
            for _ in range(geometry.resnets):
                hidden = self._block(hidden, before, level, time)
                before = channels
                skips.append((hidden, channels))
            if level < len(geometry.channels) - 1:
                hidden = self.conv(hidden, channels, channels, stride=2, bias=True)
                skips.append((hidden, channels))
        return hidden, skips

    def _up(self, hidden: str, skips: list[tuple[str, int]], time: str) -> str:
        geometry = self._geometry
        before = geometry.channels[-1]
        for level, channels in reversed(list(enumerate(geometry.channels))):
            for _ in range(geometry.resnets + 1):
                skip, wide = skips.pop()
                hidden = self._block(self.node("Concat", hidden, skip, axis=1), before + wide, level, time)
                before = channels
            if level:
                scales = self.constant(np.array([1, 1, 2, 2], np.float32))
                larger = self.node(
                    "Resize",
                    hidden,
                    "",
                    scales,
                    mode="nearest",
                    nearest_mode="floor",
                    coordinate_transformation_mode="asymmetric",
                )
                hidden = self.conv(larger, channels, channels, bias=True)
        return hidden

    def _block(self, hidden: str, before: int, level: int, time: str) -> str:
        channels = self._geometry.channels[level]
        hidden = self._resnet(hidden, before, channels, time)
        return self._transformer(hidden, channels) if level < self._geometry.attending else hidden

    def _resnet(self, hidden: str, before: int, channels: int, time: str) -> str:
        first = self.conv(self.silu(self._group_norm(hidden, before)), before, channels, bias=True)
        moment = self.matmul(time, self._geometry.time, channels, bias=True)
        first = self.node("Add", first, self.node("Reshape", moment, self.shape(-1, channels, 1, 1)))
        second = self.conv(self.silu(self._group_norm(first, channels)), channels, channels, bias=True)
        shortcut = hidden if before == channels else self.conv(hidden, before, channels, side=1, bias=True)
        return self.node("Add", shortcut, second)

    def _transformer(self, hidden: str, channels: int) -> str:
        inner = self.conv(self._group_norm(hidden, channels), channels, channels, side=1, bias=True)
        rows = self.node("Transpose", self.node("Reshape", inner, self.shape(0, channels, -1)), perm=[0, 2, 1])
        normed = self._layer_norm(rows, channels)
        rows = self.node("Add", rows, self._attention(normed, normed, channels, channels))
        normed = self._layer_norm(rows, channels)
        rows = self.node("Add", rows, self._attention(normed, "hidden_states", channels, WIDTH))
        rows = self.node("Add", rows, self._feed_forward(self._layer_norm(rows, channels), channels))
        picture = self.node("Reshape", self.node("Transpose", rows, perm=[0, 2, 1]), self.node("Shape", inner))
        return self.node("Add", hidden, self.conv(picture, channels, channels, side=1, bias=True))

    def _attention(self, rows: str, other: str, channels: int, width: int) -> str:
        query = self.matmul(rows, channels, channels)
        key, value = (self.matmul(other, width, channels) for _ in range(2))
        seen = self.node("MultiHeadAttention", query, key, value, domain="com.microsoft", num_heads=_HEADS)
        return self.matmul(seen, channels, channels, bias=True)

    def _feed_forward(self, rows: str, channels: int) -> str:
        wide, gate = self.halves(self.matmul(rows, channels, 8 * channels, bias=True))
        return self.matmul(self.node("Mul", wide, self.node("Gelu", gate)), 4 * channels, channels, bias=True)

    def _layer_norm(self, rows: str, channels: int) -> str:
        scale, bias = self.filled(1.0, channels), self.filled(0.0, channels)
        return self.node("LayerNormalization", rows, scale, bias, axis=-1)

    def _group_norm(self, hidden: str, channels: int) -> str:
        groups = self.node("Reshape", hidden, self.shape(0, _GROUPS, -1))
        normed = self.node("InstanceNormalization", groups, self.filled(1.0, _GROUPS), self.filled(0.0, _GROUPS))
        picture = self.node("Reshape", normed, self.node("Shape", hidden))
        scaled = self.node("Mul", picture, self.filled(1.0, channels, 1, 1))
        return self.node("Add", scaled, self.filled(0.0, channels, 1, 1))
