"""Groups of weights that are shrunk together: which there are, and how long each is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from kopt import _checks
from kopt._kernels.axes import axes_of
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
    units = _Units.of(weights, variable, axis)
    return weights if units is None else units.arrange(weights)


def shortened(
    weights: Any,
    variable: keras.Variable,
    axis: Axis,
    amount: Any,
    *,
    scale_by_size: bool,
) -> Any:
    """Weights whose groups are shorter by an amount, and zero where they were shorter.

    Args:
        weights: The values of a variable.
        variable: The variable, which says what its axes are.
        axis: The axes that number the groups.
        amount: A scalar, for each group times the root of its size where
            `scale_by_size` is true.
        scale_by_size: Whether large groups are shortened by more.
    """
    units = _Units.of(weights, variable, axis)
    groups = weights if units is None else units.arrange(weights)
    length, size = lengths(groups, axis)
    amount = amount * (math.sqrt(size) if scale_by_size else 1.0)
    stays = length > amount
    factor = ops.where(stays, 1 - amount / ops.where(stays, length, 1.0), 0.0)
    within = axes_within(-1 if axis is None else axis, groups.shape)
    # An axis of size 1 for each that a group spans.
    factor = ops.expand_dims(factor, sorted(within))
    # Not a product alone, which would make negative zeros.
    shorter = ops.where(factor > 0, groups * factor, ops.zeros_like(groups))
    return shorter if units is None else units.restore(shorter)


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


class _Units(NamedTuple):
    """A kernel as a matrix whose columns are the output units.

    Args:
        folding: The kernel's axes, those within a unit first.
        gates: How many gates lie side by side on the axis of the outputs.
    """

    folding: Folding
    gates: int

    @classmethod
    def of(
        cls, weights: Any, variable: keras.Variable | None, axis: Axis
    ) -> _Units | None:
        """That of a variable, or `None` where its axes serve as they are."""
        if variable is None or axis is not None:
            return None
        (axes,) = axes_of([variable])
        rank = len(weights.shape)
        if axes is None or (axes.filters == (rank - 1,) and axes.gates == 1):
            return None
        within = tuple(axis for axis in range(rank) if axis not in axes.filters)
        return cls(Folding(tuple(weights.shape), (within, axes.filters)), axes.gates)

    def arrange(self, weights: Any) -> Any:
        # The gates lie side by side, so a unit's columns are as far apart as there are
        # units: this puts them below each other.
        units = self.folding.sizes[1] // self.gates
        return ops.reshape(self.folding.fold(weights), (-1, units))

    def restore(self, arranged: Any) -> Any:
        """The inverse of `arrange`."""
        return self.folding.unfold(ops.reshape(arranged, self.folding.sizes))
