from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers._penalty import Traits
from kopt.regularizers._proximal import ProximalPenalty, soft_threshold


@register("regularizers")
class L1(ProximalPenalty):
    """`l1` times the sum of absolute values: drives single weights towards zero.

    Takes the place of `keras.regularizers.L1`, with a factor that can be moved.

    An optimizer that divides each gradient by its running size, such as Adam or
    RMSprop, divides the penalty's gradient with it: weights with small gradients are
    then shrunk far more than `l1` says. With SGD the penalty acts as written. No
    gradient step lands on exactly zero: for that there is `proximal=True`, with which
    a kopt optimizer shrinks each weight by `learning_rate * l1` after its step, and
    sets those to zero that are nearer to it. The loss still shows the penalty.

    With `proximal=True` and SGD, with or without momentum, training ends at the minimum
    of loss and penalty. After an adaptive step the shrinking is by the same amount for
    all weights, as decoupled weight decay is: a weight is held at zero where the mean
    of its gradients is below `l1` times their running size, so that values from 0.01 to
    0.5 are common. (The step in the metric of the preconditioner, which would keep the
    minimum, is in Yun, Lozano, Yang 2021; groups have no closed form there.)

    Args:
        l1: Factor, at least 0. `regularizer.l1 = 0.1` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.
        proximal: Whether the optimizer applies the penalty after its step. It has to
            be one of kopt's; in wrappers, what is evaluated has the same zeros.

    Raises:
        ValueError: If `l1` is negative or not finite, or when training begins with
            `proximal=True` and another optimizer.

    References:
        Tibshirani: Regression Shrinkage and Selection via the Lasso. Journal of the
        Royal Statistical Society B 58, 1996. On the proximal step: Parikh, Boyd:
        Proximal Algorithms. Foundations and Trends in Optimization 1, 2014. On adaptive
        ones: Yun, Lozano, Yang: Adaptive Proximal Gradient Methods for Structured
        Neural Networks. NeurIPS 2021.

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

    def __init__(
        self, l1: float | keras.Variable = 0.01, *, proximal: bool = False
    ) -> None:
        self.l1 = l1
        self.proximal = bool(proximal)

    def penalty(self, weights: Any) -> Any:
        return self._l1 * ops.sum(ops.abs(weights))

    def shrunk(self, weights: Any, variable: keras.Variable, rate: Any) -> Any:
        return soft_threshold(weights, rate * ops.cast(self._l1, weights.dtype))

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "proximal": self.proximal}
