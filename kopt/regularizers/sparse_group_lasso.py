from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kopt import _checks
from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers import _groups
from kopt.regularizers._penalty import Traits
from kopt.regularizers._proximal import ProximalPenalty, soft_threshold


@register("regularizers")
class SparseGroupLasso(ProximalPenalty):
    """Group lasso and L1 together: empties groups, and thins out those that stay.

    The penalty on weights W with groups W_g of p weights each is

        factor * ((1 - l1_ratio) * sqrt(p) * sum over g of ||W_g||
                  + l1_ratio * sum of |w|)

    As with `L1` and `GroupLasso`, an optimizer that divides each gradient by its
    running size divides the penalty's with it, and no gradient step lands on exactly
    zero. With `proximal=True` a kopt optimizer shrinks single weights and then groups
    after its step, which do reach it.

    Args:
        factor: At least 0. `regularizer.factor = 1e-3` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.
        axis: The axis, or axes, that number the groups, as in `GroupLasso`. `None`
            makes a group of each output unit of the layer. Defaults to `None`.
        l1_ratio: Share of the L1 penalty, from 0 (`GroupLasso`) to 1 (`L1`).
        scale_by_size: Whether to include `sqrt(p)`, as in `GroupLasso`.
        proximal: Whether the optimizer applies the penalty after its step. It has to
            be one of kopt's; in wrappers, what is evaluated has the same zeros.

    Raises:
        ValueError: If `factor` is negative or not finite, if `l1_ratio` is outside 0 to
            1, if the weights have no such axis, or when training begins with
            `proximal=True` and another optimizer.

    References:
        Simon, Friedman, Hastie, Tibshirani: A Sparse-Group Lasso. Journal of
        Computational and Graphical Statistics 22, 2013. On neural networks: Scardapane,
        Comminiello, Hussain, Uncini: Group Sparse Regularization for Deep Neural
        Networks, 2016, arXiv:1607.00485 (both penalties with the same factor).

    Example:

    >>> kernel = np.array([[3.0, 0.0], [4.0, 0.0]])  # the second neuron is empty
    >>> penalty = kopt.regularizers.SparseGroupLasso(1.0, scale_by_size=False)
    >>> float(penalty(kernel))  # half of 5, the length, and half of 7
    6.0
    """

    _traits = Traits(
        configs=(
            {"factor": 0.3},
            {},
            {"factor": 0.3, "l1_ratio": 0.9, "axis": -2},
            {"factor": 0.3, "l1_ratio": 0.1, "scale_by_size": False},
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
        l1_ratio: float = 0.5,
        scale_by_size: bool = True,
        proximal: bool = False,
    ) -> None:
        self.factor = factor
        self.axis = _groups.checked_axis(axis)
        self.l1_ratio = _checks.number("l1_ratio", l1_ratio, low=0.0, high=1.0)
        self.scale_by_size = bool(scale_by_size)
        self.proximal = bool(proximal)

    def arranged(self, weights: Any, variable: keras.Variable | None) -> Any:
        return _groups.arranged(weights, variable, self.axis)

    def penalty(self, weights: Any) -> Any:
        lengths, size = _groups.lengths(weights, self.axis)
        scale = math.sqrt(size) if self.scale_by_size else 1.0
        grouped = (1 - self.l1_ratio) * scale * ops.sum(lengths)
        single = self.l1_ratio * ops.sum(ops.abs(weights))
        return self._factor * (grouped + single)

    def shrunk(self, weights: Any, variable: keras.Variable, rate: Any) -> Any:
        # The proximal step of the sum is that of one after that of the other, in this
        # order.
        amount = rate * ops.cast(self._factor, weights.dtype)
        single = soft_threshold(weights, amount * self.l1_ratio)
        return _groups.shortened(
            single,
            variable,
            self.axis,
            amount * (1 - self.l1_ratio),
            scale_by_size=self.scale_by_size,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "axis": self.axis,
            "l1_ratio": self.l1_ratio,
            "scale_by_size": self.scale_by_size,
            "proximal": self.proximal,
        }
