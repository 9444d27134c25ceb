from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers._penalty import Penalty, Traits


@register("regularizers")
class L1(Penalty):
    """`l1` times the sum of absolute values: drives single weights towards zero.

    Takes the place of `keras.regularizers.L1`, with a factor that can be moved.

    An optimizer that divides each gradient by its running size, such as Adam or
    RMSprop, divides the penalty's gradient with it: weights with small gradients are
    then shrunk far more than `l1` says. With SGD the penalty acts as written. No
    gradient step lands on exactly zero: to get zeros, prune afterwards.

    Args:
        l1: Factor, at least 0. `regularizer.l1 = 0.1` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.

    Raises:
        ValueError: If `l1` is negative or not finite.

    References:
        Tibshirani: Regression Shrinkage and Selection via the Lasso. Journal of the
        Royal Statistical Society B 58, 1996.

    Example:

    >>> penalty = kopt.regularizers.L1(0.5)
    >>> float(penalty(np.array([[1.0, -2.0], [0.0, 3.0]])))
    3.0
    >>> penalty.l1 = 0.25
    >>> float(penalty(np.array([[1.0, -2.0], [0.0, 3.0]])))
    1.5
    """

    _traits = Traits(configs=({"l1": 0.3}, {}))

    l1 = LiveFloat(low=0.0)
    _l1: keras.Variable

    def __init__(self, l1: float | keras.Variable = 0.01) -> None:
        self.l1 = l1

    def penalty(self, weights: Any) -> Any:
        return self._l1 * ops.sum(ops.abs(weights))

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1}
