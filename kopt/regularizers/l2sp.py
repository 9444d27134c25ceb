from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers._anchors import AnchoredPenalty
from kopt.regularizers._penalty import Traits


@register("regularizers")
class L2SP(AnchoredPenalty):
    """`factor` times the squared distance of the weights from where they started.

    For fine-tuning: L2 draws pretrained weights to zero and with that away from what
    they know, L2SP draws them back to it. `kopt.regularizers.apply` puts it on the
    weights of a model and notes their values at that moment:

        penalty = kopt.regularizers.L2SP()
        model = kopt.regularizers.apply(pretrained, {"backbone": penalty})

    The values are saved with the model. They are none of its weights: not counted, and
    not in `get_weights`.

    Args:
        factor: At least 0; half of the paper's alpha. `regularizer.factor = 1e-3`
            moves it, for compiled steps too. A scalar `keras.Variable` is used itself,
            so that one variable can steer several regularizers.

    Raises:
        ValueError: If `factor` is negative or not finite, or when the penalty is
            computed for weights that it was not put on by `apply`.

    References:
        Li, Grandvalet, Davoine: Explicit Inductive Bias for Transfer Learning with
        Convolutional Networks, 2018, arXiv:1802.01483 (which also puts L2 on the
        weights of new layers).

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model = kopt.regularizers.apply(model, {"dense": kopt.regularizers.L2SP(0.5)})
    >>> [float(loss) for loss in model.losses]
    [0.0]
    >>> model.layers[0].kernel.assign_add([[1.0], [2.0]]) is None
    False
    >>> [round(float(loss), 4) for loss in model.losses]
    [2.5]
    """

    _traits = Traits(configs=({"factor": 0.3}, {}), penalizes="distances")

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(self, factor: float | keras.Variable = 0.01) -> None:
        self.factor = factor

    def penalty(self, weights: Any) -> Any:
        return self._factor * ops.sum(ops.square(weights))

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor}
