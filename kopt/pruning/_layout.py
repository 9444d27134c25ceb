"""Where a kernel's inputs and outputs are.

Blocks and N:M groups lie along a kernel's inputs. A `Layout` turns a kernel of any
rank into matrices of shape `(positions, inputs, outputs)` and back: one matrix for a
dense layer, one for each place of a convolution's window.
"""

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


class Layout(NamedTuple):
    """How a kernel's axes are grouped.

    Args:
        shape: The kernel's shape.
        axes: All axes, in the order positions, inputs, outputs.
        matrices: The sizes of the three groups.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    matrices: tuple[int, int, int]

    def to_matrices(self, kernel: Tensor) -> Tensor:
        """The kernel as `(positions, inputs, outputs)`."""
        return ops.reshape(ops.transpose(kernel, self.axes), self.matrices)

    def mask_from_matrices(self, matrices: Tensor) -> Tensor:
        """The inverse of `to_matrices`, for a boolean mask."""
        mask = ops.reshape(matrices, [self.shape[axis] for axis in self.axes])
        if list(self.axes) == sorted(self.axes):
            return mask
        # As floats: TensorFlow logs an error when it transposes anything else on a CPU.
        moved = ops.transpose(ops.cast(mask, "float32"), np.argsort(self.axes).tolist())
        return ops.cast(moved, "bool")


def kernel_layout(layer: keras.Layer, shape: Sequence[int]) -> Layout:
    """The layout of a layer's kernel of rank 2 or more."""
    inputs, outputs = _input_output_axes(layer, len(shape))
    used = (*inputs, *outputs)
    positions = tuple(axis for axis in range(len(shape)) if axis not in used)
    sizes = [math.prod(shape[a] for a in axes) for axes in (positions, inputs, outputs)]
    return Layout(tuple(shape), (*positions, *used), (sizes[0], sizes[1], sizes[2]))


def _input_output_axes(
    layer: keras.Layer, rank: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(layer, keras.layers.EinsumDense):
        _, weight, output = layer.equation.replace("->", ",").split(",")
        inputs = tuple(i for i, letter in enumerate(weight) if letter not in output)
        if inputs:
            return inputs, tuple(i for i in range(rank) if i not in inputs)
    if isinstance(layer, _TRANSPOSED):
        return (rank - 1,), (rank - 2,)
    return (rank - 2,), (rank - 1,)
