from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers._anchors import Anchor, AnchoredPenalty
from kopt.regularizers._penalty import Traits


@register("regularizers")
class EWC(AnchoredPenalty):
    """Elastic weight consolidation: learns a second task without forgetting the first.

    Weights are held to their values after the first task, each as much as it matters
    for that: `factor` times the sum of `F * (w - anchor)^2`, where F is the Fisher
    information, which `estimate_fisher` measures on data of the first task:

        fisher = kopt.regularizers.estimate_fisher(model, first_task)
        kopt.regularizers.apply(
            model, {".*": kopt.regularizers.EWC()}, fisher=fisher
        )
        model.fit(second_task)

    `apply` notes the values that the weights have at that moment. Values and Fisher
    information are saved with the model. They are none of its weights.

    Args:
        factor: At least 0; half of the paper's lambda. `regularizer.factor = 10.0`
            moves it, for compiled steps too. A scalar `keras.Variable` is used itself,
            so that one variable can steer several regularizers.

    Raises:
        ValueError: If `factor` is negative or not finite, or when the penalty is
            computed for weights that it was not put on by `apply`.

    References:
        Kirkpatrick et al.: Overcoming catastrophic forgetting in neural networks, 2016,
        arXiv:1612.00796.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> fisher = [np.array([[3.0], [0.0]]), np.zeros(1)]  # only the first input matters
    >>> ewc = kopt.regularizers.EWC(0.5)
    >>> model = kopt.regularizers.apply(model, {"dense": ewc}, fisher=fisher)
    >>> model.layers[0].kernel.assign_add([[1.0], [9.0]]) is None
    False
    >>> [round(float(loss), 4) for loss in model.losses]
    [1.5]
    """

    _traits = Traits(configs=({"factor": 0.3}, {}), penalizes="distances")
    needs_importance = True

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(self, factor: float | keras.Variable = 50.0) -> None:
        self.factor = factor

    def distances(self, weights: Any, anchor: Anchor) -> Any:
        return ops.sqrt(anchor.importance) * (weights - anchor.values)

    def penalty(self, weights: Any) -> Any:
        return self._factor * ops.sum(ops.square(weights))

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor}
