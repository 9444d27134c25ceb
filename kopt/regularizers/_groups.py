"""Groups of weights that are shrunk together: which there are, and how long each is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kopt import _checks
from kopt._kernels.axes import KernelAxes, axes_of
from kopt._kernels.folding import Folding

Axis = int | tuple[int, ...] | None


def checked_axis(axis: int | Sequence[int] | None) -> Axis:
    """The axes that number groups as a constructor takes them."""
    if axis is None:
        return None
    if isinstance(axis, Sequence) and not isinstance(axis, str):
        return tuple(_checks.integer("axis", one) for one in axis)
    return _checks.integer("axis", axis, hint="Or give a tuple of whole numbers.")


def arranged(weights: Any, variable: keras.Variable | None, axis: Axis) -> Any:
    """The weights of a variable; by the axis `None`, with its units on the last one."""
    if variable is None or axis is not None:
        return weights
    (axes,) = axes_of([variable])
    return weights if axes is None else _by_unit(weights, axes)


def lengths(weights: Any, axis: Axis) -> tuple[Any, int]:
    """The Euclidean length of each group, and how many weights a group has.

    Args:
        weights: Floating-point array.
        axis: The axes that number the groups; `None` is the last one.

    Returns:
        An array with one length for each group; its gradient is zero where a group is.
        A whole number.
    """
    within = axes_within(-1 if axis is None else axis, weights.shape)
    size = math.prod(weights.shape[one] for one in within)
    square = ops.sum(ops.square(weights), axis=within)
    # The root has an infinite slope at 0, and infinity times 0 makes NaN. So it is not
    # taken there: zero is a subgradient of the length.
    empty = square == 0
    length = ops.where(empty, square, ops.sqrt(ops.where(empty, 1.0, square)))
    return length, size


def axes_within(axis: int | tuple[int, ...], shape: Sequence[int]) -> tuple[int, ...]:
    """The axes that a group spans: all but those that number the groups.

    Raises:
        ValueError: If weights of this shape have no such axis.
    """
    numbering = checked_axes_of(axis, shape)
    return tuple(one for one in range(len(shape)) if one not in numbering)


def checked_axes_of(
    axis: int | tuple[int, ...], shape: Sequence[int]
) -> tuple[int, ...]:
    """Axes counted from the front.

    Raises:
        ValueError: If weights of this shape have no such axis.
    """
    rank = len(shape)
    axes = (axis,) if isinstance(axis, int) else axis
    if any(not -rank <= one < rank for one in axes):
        raise ValueError(
            f"`axis` must name axes of the weights, from {-rank} to {rank - 1}. "
            f"Received: axis={axis} for weights of shape {tuple(shape)}."
        )
    return tuple(one % rank for one in axes)


def _by_unit(weights: Any, axes: KernelAxes) -> Any:
    """A kernel whose last axis numbers the output units."""
    rank = len(weights.shape)
    if axes.filters == (rank - 1,) and axes.gates == 1:
        return weights
    within = tuple(axis for axis in range(rank) if axis not in axes.filters)
    folding = Folding(tuple(weights.shape), (within, axes.filters))
    # The gates lie side by side, so a unit's columns are as far apart as there are
    # units: this puts them below each other.
    units = folding.sizes[1] // axes.gates
    return ops.reshape(folding.fold(weights), (-1, units))
