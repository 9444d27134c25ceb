from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers._penalty import Penalty, Traits


@register("regularizers")
class L1L2(Penalty):
    """The elastic net: `l1` times the absolute values plus `l2` times the squares.

    Takes the place of `keras.regularizers.L1L2`, with factors that can be moved. Under
    adaptive optimizers neither part acts as written: see `L1` and `L2`. Both parts are
    computed even where a factor is 0, for it may be moved: where one stays 0 for good,
    `L1` or `L2` alone costs less.

    Args:
        l1: Factor of the sum of absolute values, at least 0. `regularizer.l1 = 0.1`
            moves it, for compiled steps too. A scalar `keras.Variable` is used itself.
        l2: Factor of the sum of squares, likewise.

    Raises:
        ValueError: If a factor is negative or not finite.

    References:
        Zou, Hastie: Regularization and Variable Selection via the Elastic Net. Journal
        of the Royal Statistical Society B 67, 2005.

    Example:

    >>> penalty = kopt.regularizers.L1L2(l1=0.5, l2=0.25)
    >>> float(penalty(np.array([[1.0, -2.0], [0.0, 3.0]])))
    6.5
    >>> penalty.l2 = 0.0
    >>> float(penalty(np.array([[1.0, -2.0], [0.0, 3.0]])))
    3.0
    """

    _traits = Traits(configs=({"l1": 0.2, "l2": 0.3}, {"l1": 0.2}, {"l2": 0.3}))

    l1 = LiveFloat(low=0.0)
    l2 = LiveFloat(low=0.0)
    _l1: keras.Variable
    _l2: keras.Variable

    def __init__(
        self, l1: float | keras.Variable = 0.0, l2: float | keras.Variable = 0.0
    ) -> None:
        self.l1 = l1
        self.l2 = l2

    def penalty(self, weights: Any) -> Any:
        absolute = self._l1 * ops.sum(ops.abs(weights))
        square = self._l2 * ops.sum(ops.square(weights))
        return absolute + square

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "l2": self.l2}
