"""Which numbers of a weight share their centroids: all, or those of one channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

Tensor = Any

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
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
        order = self._order()
        moved = weight if order == sorted(order) else ops.transpose(weight, order)
        return ops.reshape(moved, (self.number, self.length))

    def weight(self, rows: Tensor) -> Tensor:
        """The inverse of `of`."""
        order = self._order()
        moved = ops.reshape(rows, [self.shape[axis] for axis in order])
        if order == sorted(order):
            return moved
        return ops.transpose(moved, np.argsort(order).tolist())

    def _order(self) -> list[int]:
        rest = [axis for axis in range(len(self.shape)) if axis not in self.axes]
        return [*self.axes, *rest]


def rows_of(
    layer: keras.Layer, name: str, shape: Sequence[int], *, per_channel: bool
) -> Rows:
    """How the numbers of a layer's weight share centroids.

    Only kernels of convolutions have channels: the axes of their outputs.
    """
    axes = _channel_axes(layer, name) if per_channel else ()
    return Rows(tuple(shape), tuple(axis % len(shape) for axis in axes))


def _channel_axes(layer: keras.Layer, name: str) -> tuple[int, ...]:
    if isinstance(layer, _DEPTHWISE) or name.startswith("depthwise"):
        return (-2, -1)
    if isinstance(layer, _TRANSPOSED):
        return (-2,)
    return (-1,) if isinstance(layer, _CONVOLUTIONS) else ()
