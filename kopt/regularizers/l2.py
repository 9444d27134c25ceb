from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers._penalty import Penalty, Traits


@register("regularizers")
class L2(Penalty):
    """`l2` times the sum of squares: shrinks large weights most.

    Takes the place of `keras.regularizers.L2`, with a factor that can be moved.

    This is not weight decay once the optimizer divides each gradient by its running
    size, as Adam and RMSprop do: it divides the penalty's gradient with it, so weights
    with large gradients are shrunk less. Where every weight should shrink at the same
    rate, use the optimizer's `weight_decay`.

    Args:
        l2: Factor, at least 0. `regularizer.l2 = 0.1` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.

    Raises:
        ValueError: If `l2` is negative or not finite.

    References:
        Hoerl, Kennard: Ridge Regression. Technometrics 12, 1970. On Adam: Loshchilov,
        Hutter: Decoupled Weight Decay Regularization, 2017, arXiv:1711.05101.

    Example:

    >>> penalty = kopt.regularizers.L2(0.5)
    >>> float(penalty(np.array([[1.0, -2.0], [0.0, 3.0]])))
    7.0
    >>> penalty.l2 = 0.25
    >>> float(penalty(np.array([[1.0, -2.0], [0.0, 3.0]])))
    3.5
    """

    _traits = Traits(configs=({"l2": 0.3}, {}))

    l2 = LiveFloat(low=0.0)
    _l2: keras.Variable

    def __init__(self, l2: float | keras.Variable = 0.01) -> None:
        self.l2 = l2

    def penalty(self, weights: Any) -> Any:
        return self._l2 * ops.sum(ops.square(weights))

    def get_config(self) -> dict[str, Any]:
        return {"l2": self.l2}
