"""Second moments of a matrix kept as one number a row and one a column.

For a matrix of squares with row means r and column means c, the product r c / mean(r)
is the matrix of rank one that Shazeer & Stern, 2018 (arXiv:1804.04235) keep instead.
Tensors of more axes are factored over their two longest ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

from kopt.optimizers._plan import Slot
from kopt.optimizers._transforms import sum_of_squares

#: The axis of the rows and that of the columns.
Axes = tuple[int, int]


def factored_axes(shape: Sequence[int], smallest: int = 1) -> Axes | None:
    """The two longest axes, of equal ones the later, or `None` if one is too short.

    In a convolution's kernel these are usually the channels, so that little is lost
    where a matrix stands in each place of the window.
    """
    longest = sorted(range(len(shape)), key=lambda axis: shape[axis])[-2:]
    if len(longest) < 2 or min(shape[axis] for axis in longest) < smallest:
        return None
    rows, columns = sorted(longest)
    return rows, columns


def factor_slots(shape: Sequence[int], axes: Axes) -> tuple[Slot, Slot]:
    """State for the means of the rows and of the columns."""
    rows, columns = axes
    return Slot(_without(shape, columns)), Slot(_without(shape, rows))


def track(
    row: Any, column: Any, squares: Any, axes: Axes, share: Any, epsilon: float
) -> tuple[Any, Any]:
    """Move running means of rows and columns a `share` of the way to new values.

    The values are `squares + epsilon`.
    """
    rows, columns = axes
    across = ops.mean(squares, axis=columns, keepdims=True) + epsilon
    if len(squares.shape) == 2:
        # TensorFlow's `reduce_mean` takes three times as long for columns.
        down = tf.raw_ops.BiasAddGrad(out_backprop=squares)[None] / squares.shape[0]
    else:
        down = ops.mean(squares, axis=rows, keepdims=True)
    down = down + epsilon
    return row + share * (across - row), column + share * (down - column)


def inverse_roots(row: Any, column: Any, axes: Axes) -> tuple[Any, Any]:
    """Two factors, of rows and of columns, of `1 / sqrt(r c / mean(r))`."""
    # Apart, so that they neither overflow nor vanish.
    return ops.rsqrt(_relative(row, axes)), ops.rsqrt(column)


def scaled_root_mean_square(squares: Any, row: Any, column: Any, axes: Axes) -> Any:
    """The root mean square of what is squared, times both `inverse_roots`."""
    # Times the inverse: a division takes three times as long.
    sums = ops.sum(squares * (1 / column), axis=axes[1], keepdims=True)
    return ops.sqrt(ops.sum(sums / _relative(row, axes)) / math.prod(squares.shape))


def clip_root_mean_square(update: Any, threshold: float) -> Any:
    """Shorten an update whose root mean square is above `threshold`."""
    return update / excess(root_mean_square(update), threshold)


def excess(length: Any, threshold: float) -> Any:
    """How many times the threshold a length is, at least 1."""
    return ops.maximum(length / threshold, 1.0)


def root_mean_square(tensor: Any) -> Any:
    return ops.sqrt(sum_of_squares(tensor) / math.prod(tensor.shape))


def _relative(row: Any, axes: Axes) -> Any:
    return row / ops.mean(row, axis=axes[0], keepdims=True)


def _without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return tuple(1 if place == axis else size for place, size in enumerate(shape))
