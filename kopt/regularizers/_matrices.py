"""Kernels as the matrices that they multiply with, and what is largest in these."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from kopt._kernels.axes import KernelAxes, axes_of, default_axes
from kopt._kernels.folding import Folding


def arranged(weights: Any, variable: keras.Variable | None) -> Any:
    """The matrices of a kernel, of shape (number, larger side, smaller side).

    A matrix has a column for each output and a row for each input and place of the
    window, or the other way around where there are more outputs. Channels of a
    depthwise kernel, and gates of a recurrent one, have a matrix each.

    Raises:
        ValueError: If the weights are no kernel.
    """
    rank = len(weights.shape)
    (axes,) = [None] if variable is None else axes_of([variable])
    if axes is None and variable is None and rank > 1:
        axes = default_axes(rank)
    if axes is None:
        name = "weights" if variable is None else f"{variable.path!r}"
        raise ValueError(
            "This penalty is on matrices: kernels of at least 2 axes. Received: "
            f"{name} of shape {tuple(weights.shape)}. Give it to kernels only."
        )
    matrices = _stacked(weights, axes)
    rows, columns = matrices.shape[1:]
    return matrices if rows >= columns else ops.swapaxes(matrices, 1, 2)


def excess(matrices: Any) -> Any:
    """How far the columns of each matrix are from orthonormal: W^T W - I."""
    gram = ops.matmul(ops.swapaxes(matrices, 1, 2), matrices)
    return gram - ops.eye(gram.shape[-1], dtype=gram.dtype)


def leading(symmetric: Any) -> Any:
    """The unit eigenvector of each symmetric matrix to the absolutely largest value.

    Returns:
        An array of shape (number, size, 1), without a gradient: that of `|W v|` by `W`
        needs none of `v` where `v` is exact.
    """
    values, vectors = ops.eigh(ops.stop_gradient(symmetric))
    place = ops.argmax(ops.abs(values), axis=-1)
    chosen = ops.one_hot(place, symmetric.shape[-1], dtype=vectors.dtype)
    return ops.stop_gradient(ops.matmul(vectors, ops.expand_dims(chosen, -1)))


def first_guess(size: int, dtype: str) -> Any:
    """The vector that power iterations start at, of shape (1, size, 1).

    The same at every step, so that a step is a function of the weights alone, and in a
    direction that kernels have no reason to be at right angles to.
    """
    vector = np.random.default_rng(0).normal(size=(1, size, 1))
    return ops.convert_to_tensor(vector / np.linalg.norm(vector), dtype)


def unit(vectors: Any) -> Any:
    """Vectors of shape (number, size, 1), of length 1; zero ones stay zero."""
    square = ops.sum(ops.square(vectors), axis=1, keepdims=True)
    empty = square == 0
    return vectors / ops.sqrt(ops.where(empty, 1.0, square))


def length(vectors: Any) -> Any:
    """The lengths of vectors of shape (number, size, 1); the slope at zero is zero."""
    square = ops.sum(ops.square(vectors), axis=(1, 2))
    empty = square == 0
    return ops.where(empty, square, ops.sqrt(ops.where(empty, 1.0, square)))


def _stacked(weights: Any, axes: KernelAxes) -> Any:
    rows = tuple(sorted((*axes.inputs, *axes.window, *axes.rows)))
    folding = Folding(tuple(weights.shape), (axes.channels, rows, axes.outputs))
    number, height, width = folding.sizes
    matrices = folding.fold(weights)
    if axes.gates == 1:
        return matrices
    apart = ops.reshape(matrices, (number, height, axes.gates, width // axes.gates))
    together = ops.transpose(apart, (0, 2, 1, 3))
    return ops.reshape(together, (-1, height, width // axes.gates))
