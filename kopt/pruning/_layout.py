"""Where a kernel's inputs and outputs are.

Blocks and N:M groups lie along a kernel's inputs. A `Layout` turns a kernel of any
rank into matrices of shape `(positions, inputs, outputs)` and back: one matrix for a
dense layer, one for each place of a convolution's window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kopt._kernels.axes import default_axes, kernel_axes
from kopt._kernels.folding import Folding

Tensor = Any


class Layout(Folding):
    """A kernel's axes in the groups positions, inputs and outputs."""

    __slots__ = ()

    @property
    def matrices(self) -> tuple[int, ...]:
        """How many positions, inputs and outputs there are."""
        return self.sizes

    def to_matrices(self, kernel: Tensor) -> Tensor:
        """The kernel as `(positions, inputs, outputs)`."""
        return self.fold(kernel)

    def mask_from_matrices(self, matrices: Tensor) -> Tensor:
        """The inverse of `to_matrices`, for a boolean mask."""
        if self.keeps_order:
            return self.unfold(matrices)
        # As floats: TensorFlow logs an error when it transposes anything else on a CPU.
        return ops.cast(self.unfold(ops.cast(matrices, "float32")), "bool")


def kernel_layout(
    layer: keras.Layer, shape: Sequence[int], name: str = "kernel"
) -> Layout:
    """The layout of a layer's kernel of rank 2 or more."""
    axes = kernel_axes(layer, name, len(shape)) or default_axes(len(shape))
    inputs = (*axes.inputs, *axes.rows)
    # Channels that stay apart are matrices of their own, unless nothing else comes in.
    apart = axes.channels if inputs else ()
    positions = tuple(sorted((*axes.window, *apart)))
    return Layout(tuple(shape), (positions, inputs or axes.channels, axes.outputs))
