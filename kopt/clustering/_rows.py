"""Which numbers of a weight share their centroids: all, or those of one channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from kopt._kernels.axes import kernel_axes
from kopt._kernels.folding import Folding

Tensor = Any

_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)


class Rows(NamedTuple):
    """A weight as rows of numbers, one row for each set of centroids.

    Args:
        shape: The weight's shape.
        axes: The axes that number the rows. None of them: the weight is one row.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def number(self) -> int:
        """How many rows there are."""
        return math.prod(self.shape[axis] for axis in self.axes)

    @property
    def length(self) -> int:
        """How many numbers a row has."""
        return math.prod(self.shape) // self.number

    def of(self, weight: Tensor) -> Tensor:
        """The weight as `(rows, numbers)`."""
        return self._folding.fold(weight)

    def weight(self, rows: Tensor) -> Tensor:
        """The inverse of `of`."""
        return self._folding.unfold(rows)

    @property
    def _folding(self) -> Folding:
        rest = tuple(a for a in range(len(self.shape)) if a not in self.axes)
        return Folding(self.shape, (self.axes, rest))


def rows_of(
    layer: keras.Layer, name: str, shape: Sequence[int], *, per_channel: bool
) -> Rows:
    """How the numbers of a layer's weight share centroids.

    Only kernels of convolutions have channels: the axes of their outputs.
    """
    axes = _channel_axes(layer, name, len(shape)) if per_channel else ()
    return Rows(tuple(shape), axes)


def _channel_axes(layer: keras.Layer, name: str, rank: int) -> tuple[int, ...]:
    if not (isinstance(layer, _CONVOLUTIONS) or name.startswith("depthwise")):
        return ()
    axes = kernel_axes(layer, name, rank)
    return () if axes is None else axes.filters
