from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kopt import _checks
from kopt._kernels.axes import KernelAxes, axes_of
from kopt._kernels.folding import Folding
from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers._penalty import Penalty, Traits


@register("regularizers")
class GroupLasso(Penalty):
    """`factor` times the sum of the lengths of groups: empties whole groups of weights.

    Where L1 zeroes weights here and there, this shrinks all weights of a neuron, filter
    or channel together, so that it can be removed and the model gets smaller and
    faster. The penalty on weights W with groups W_g of p weights each is

        factor * sqrt(p) * sum over g of ||W_g||

    An optimizer that divides each gradient by its running size, such as Adam or
    RMSprop, divides the penalty's gradient with it, so the weights of a group are no
    longer shrunk in proportion. With SGD the penalty acts as written. No gradient step
    lands on exactly zero: to get zeros, prune the shortest groups afterwards.

    Args:
        factor: At least 0. `regularizer.factor = 1e-3` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.
        axis: The axis, or axes, that number the groups; a group spans the others.
            `None` makes a group of each output unit of the layer that the weights
            belong to: of each neuron or filter, each channel of a depthwise
            convolution, each dimension of each head in attention, each dimension of
            an embedding, and in a recurrent layer each unit's columns in all gates
            together (the row through which its state comes back is not part of the
            group). Weights of no layer have theirs on the last axis. On a kernel of
            shape `(..., inputs, outputs)`, -2 is for inputs and `(-2, -1)` for the
            single 2-D kernels of a convolution. Defaults to `None`.
        scale_by_size: Whether to include `sqrt(p)`, without which layers with large
            groups are penalized less for each weight.

    Raises:
        ValueError: If `factor` is negative or not finite, or if the weights have no
            such axis.

    References:
        Yuan, Lin: Model Selection and Estimation in Regression with Grouped Variables.
        Journal of the Royal Statistical Society B 68, 2006. Wen, Wu, Wang, Chen, Li:
        Learning Structured Sparsity in Deep Neural Networks, 2016, arXiv:1608.03665
        (without `sqrt(p)`).

    Example:

    >>> kernel = np.array([[3.0, 0.0], [4.0, 0.0]])  # the second neuron is empty
    >>> float(kopt.regularizers.GroupLasso(0.5, scale_by_size=False)(kernel))
    2.5
    >>> float(kopt.regularizers.GroupLasso(0.5, -2, scale_by_size=False)(kernel))
    3.5
    """

    _traits = Traits(
        configs=(
            {"factor": 0.3},
            {},
            {"factor": 0.3, "scale_by_size": False},
            {"factor": 0.3, "axis": -2},
            {"factor": 0.3, "axis": -1},
            {"factor": 0.3, "axis": (-2, -1)},
        ),
        shapes=((5, 3), (3, 3, 4, 6)),
    )

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(
        self,
        factor: float | keras.Variable = 1e-4,
        axis: int | Sequence[int] | None = None,
        *,
        scale_by_size: bool = True,
    ) -> None:
        self.factor = factor
        self.axis = _checked_axis(axis)
        self.scale_by_size = bool(scale_by_size)

    def arranged(self, weights: Any, variable: keras.Variable) -> Any:
        (axes,) = [None] if self.axis is not None else axes_of([variable])
        return weights if axes is None else _by_unit(weights, axes)

    def penalty(self, weights: Any) -> Any:
        within = _axes_within(-1 if self.axis is None else self.axis, weights.shape)
        size = math.prod(weights.shape[axis] for axis in within)
        scale = math.sqrt(size) if self.scale_by_size else 1.0
        return self._factor * (scale * ops.sum(_lengths(weights, within)))

    def get_config(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "axis": self.axis,
            "scale_by_size": self.scale_by_size,
        }


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


def _lengths(weights: Any, within: tuple[int, ...]) -> Any:
    """Euclidean lengths over the axes `within`; the gradient at zero is zero."""
    square = ops.sum(ops.square(weights), axis=within)
    # The root has an infinite slope at 0, and infinity times 0 makes NaN. So it is not
    # taken there: zero is a subgradient of the length.
    empty = square == 0
    return ops.where(empty, square, ops.sqrt(ops.where(empty, 1.0, square)))


def _axes_within(axis: int | tuple[int, ...], shape: Sequence[int]) -> tuple[int, ...]:
    """The axes that a group spans: all but those that number the groups."""
    rank = len(shape)
    numbering = (axis,) if isinstance(axis, int) else axis
    if any(not -rank <= one < rank for one in numbering):
        raise ValueError(
            f"`axis` must name axes of the weights, from {-rank} to {rank - 1}. "
            f"Received: axis={axis} for weights of shape {tuple(shape)}."
        )
    numbering = tuple(one % rank for one in numbering)
    return tuple(one for one in range(rank) if one not in numbering)


def _checked_axis(axis: int | Sequence[int] | None) -> int | tuple[int, ...] | None:
    if axis is None:
        return None
    if isinstance(axis, Sequence) and not isinstance(axis, str):
        return tuple(_checks.integer("axis", one) for one in axis)
    return _checks.integer("axis", axis, hint="Or give a tuple of whole numbers.")
