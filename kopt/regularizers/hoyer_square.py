from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers import _groups
from kopt.regularizers._penalty import Penalty, Traits

# Below this a float32 has fewer digits than it should.
_SMALLEST = 1.2e-38


@register("regularizers")
class HoyerSquare(Penalty):
    """`factor` times a count of the weights that are not small, whatever their scale.

    The penalty on weights W is

        factor * (sum of |w|)^2 / (sum of w^2)

    which is 1 for a single weight that is not zero and n for n equal ones. Unlike L1 it
    does not shrink what is left: it drives weights below a threshold, sum of w^2 / sum
    of |w|, to zero and lets those above it grow. `by_group=True` puts the lengths of
    groups in the place of single weights, to empty neurons, filters or channels.

    To get exact zeros, prune the smallest weights afterwards.

    Args:
        factor: At least 0. `regularizer.factor = 1e-4` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.
        axis: With `by_group`, the axis, or axes, that number the groups, as in
            `GroupLasso`. `None` makes a group of each output unit of the layer.
        by_group: Whether to count groups in the place of single weights.

    Raises:
        ValueError: If `factor` is negative or not finite, if `axis` is given without
            `by_group`, or if the weights have no such axis.

    References:
        Yang, Wen, Li: DeepHoyer: Learning Sparser Neural Network with Differentiable
        Scale-Invariant Sparsity Measures, 2019, arXiv:1908.09979. Weights that are all
        zero, for which the ratio is not defined, have no penalty here.

    Example:

    >>> penalty = kopt.regularizers.HoyerSquare(1.0)
    >>> [float(penalty(np.array(w))) for w in ([5.0, 0.0], [5.0, 5.0], [0.1, 0.1])]
    [1.0, 2.0, 2.0]
    """

    _traits = Traits(
        configs=(
            {"factor": 0.3},
            {},
            {"factor": 0.3, "by_group": True},
            {"factor": 0.3, "axis": -2, "by_group": True},
        ),
        shapes=((5, 3), (3, 3, 4, 6)),
    )

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(
        self,
        factor: float | keras.Variable = 1e-5,
        axis: int | Sequence[int] | None = None,
        *,
        by_group: bool = False,
    ) -> None:
        self.factor = factor
        self.axis = _groups.checked_axis(axis)
        self.by_group = bool(by_group)
        if axis is not None and not by_group:
            raise ValueError(
                "`axis` numbers groups, and single weights have none. Received: "
                f"axis={axis} with by_group=False. Set by_group=True."
            )

    def arranged(self, weights: Any, variable: keras.Variable | None) -> Any:
        if not self.by_group:
            return weights
        return _groups.arranged(weights, variable, self.axis)

    def penalty(self, weights: Any) -> Any:
        # The scale cancels out; taken out before, it cannot overflow or vanish.
        largest = ops.stop_gradient(ops.max(ops.abs(weights)))
        empty = largest < _SMALLEST
        weights = weights / ops.where(empty, 1.0, largest)
        if self.by_group:
            sizes, _ = _groups.lengths(weights, self.axis)
        else:
            sizes = ops.abs(weights)
        square = ops.sum(ops.square(sizes))
        ratio = ops.square(ops.sum(sizes)) / ops.where(empty, 1.0, square)
        return self._factor * ops.where(empty, 0.0, ratio)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "axis": self.axis, "by_group": self.by_group}
