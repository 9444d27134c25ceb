"""What is done to a gradient or a direction outside the update formula.

Pure functions on tensors. A "unit" is one output with all that feeds it; which axes of
a kernel one unit spans, `kopt._kernels.axes` knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

Tensor = Any


def centralize(gradient: Tensor, within: Sequence[int] | None) -> Tensor:
    """Take each unit's mean away from the gradient of a kernel.

    Yong et al., 2020, "Gradient Centralization", arXiv:2004.01461.

    Args:
        gradient: A gradient.
        within: The axes that one unit spans, or `None` for what is no kernel: vectors,
            which stay as they are.
    """
    # The mean of a single weight is all of it: nothing would ever move.
    if within is None or all(gradient.shape[axis] == 1 for axis in within):
        return gradient
    return gradient - ops.mean(gradient, axis=tuple(within), keepdims=True)


def clip_adaptively(
    gradient: Tensor,
    weights: Tensor,
    within: Sequence[int] | None,
    ratio: float,
    epsilon: float = 1e-3,
) -> Tensor:
    """Keep each unit's gradient norm below `ratio` times its weight norm.

    Weights are counted with a norm of at least `epsilon`, so that a unit that starts
    from zero can move. Brock et al., 2021, "High-Performance Large-Scale Image
    Recognition Without Normalization", arXiv:2102.06171.

    Args:
        gradient: A gradient.
        weights: The weights, of the same shape.
        within: The axes that one unit spans, or `None` for what is no kernel: a vector
            is one unit.
        ratio: Largest ratio of the norms.
        epsilon: Smallest norm that weights are counted with.
    """
    limit = ratio * ops.maximum(_unit_norm(weights, within), epsilon)
    norm = ops.maximum(_unit_norm(gradient, within), 1e-6)
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


def _unit_norm(tensor: Tensor, within: Sequence[int] | None) -> Tensor:
    axes = None if within is None else tuple(within)
    return ops.sqrt(ops.sum(ops.square(tensor), axis=axes, keepdims=True))
