"""What is done to a gradient or a direction outside the update formula.

Pure functions on tensors. A gradient's last axis is the output axis, as in every
Keras kernel; a "unit" is one output with all that feeds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

Tensor = Any


def centralize(gradient: Tensor) -> Tensor:
    """Take each unit's mean away from a gradient of rank 2 or more.

    Yong et al., 2020, "Gradient Centralization", arXiv:2004.01461.
    """
    if len(gradient.shape) < 2:
        return gradient
    return gradient - ops.mean(gradient, axis=_unit_axes(gradient), keepdims=True)


def clip_adaptively(
    gradient: Tensor, weights: Tensor, ratio: float, epsilon: float = 1e-3
) -> Tensor:
    """Keep each unit's gradient norm below `ratio` times its weight norm.

    Weights are counted with a norm of at least `epsilon`, so that a unit that starts
    from zero can move. Brock et al., 2021, "High-Performance Large-Scale Image
    Recognition Without Normalization", arXiv:2102.06171.
    """
    limit = ratio * ops.maximum(_unit_norm(weights), epsilon)
    norm = ops.maximum(_unit_norm(gradient), 1e-6)
    return gradient * ops.minimum(limit / norm, 1.0)


def clip_by_norm(gradient: Tensor, limit: float) -> Tensor:
    """Shorten a gradient that is longer than `limit`."""
    return gradient * _shrinkage(norm([gradient]), limit)


def clip_by_global_norm(gradients: Sequence[Tensor], limit: float) -> list[Tensor]:
    """Shorten all gradients together so that their joint norm is at most `limit`.

    Pascanu et al., 2013, "On the difficulty of training recurrent neural networks",
    arXiv:1211.5063.
    """
    factor = _shrinkage(norm(gradients), limit)
    return [gradient * ops.cast(factor, gradient.dtype) for gradient in gradients]


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all the numbers in some tensors."""
    squares = [sum_of_squares(tensor) for tensor in tensors]
    widest = "float64" if any(s.dtype == "float64" for s in squares) else "float32"
    return ops.sqrt(sum(ops.cast(square, widest) for square in squares))


def sum_of_squares(tensor: Tensor) -> Tensor:
    """The sum of all squares, in one pass over memory."""
    return 2 * tf.nn.l2_loss(tensor)


def cautious(direction: Tensor, gradient: Tensor) -> Tensor:
    """Drop the parts of a direction that go against the present gradient.

    What stays is scaled up to make good for what went.
    Liang et al., 2024, "Cautious Optimizers", arXiv:2411.16085.
    """
    agrees = ops.cast(direction * gradient > 0, direction.dtype)
    return direction * agrees / ops.maximum(ops.mean(agrees), 1e-3)


def _shrinkage(length: Tensor, limit: float) -> Tensor:
    # NaN or infinity in the gradient comes through as NaN: it must not be hidden.
    return ops.where(length > limit, limit / length, ops.ones_like(length) + 0 * length)


def _unit_axes(tensor: Tensor) -> tuple[int, ...]:
    return tuple(range(len(tensor.shape) - 1))


def _unit_norm(tensor: Tensor) -> Tensor:
    axes = _unit_axes(tensor) if len(tensor.shape) > 1 else None
    return ops.sqrt(ops.sum(ops.square(tensor), axis=axes, keepdims=True))
