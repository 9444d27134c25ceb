from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt import _checks
from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers._activations import ActivityPenalty, by_sample
from kopt.regularizers._penalty import Traits

# Means are kept this far from 0 and 1, where the divergence is infinite.
_MARGIN = 2.0**-20


@register("regularizers")
class KLSparsity(ActivityPenalty):
    """Has each unit of a layer active for a small share of the samples only.

    An activity regularizer for activations between 0 and 1, such as those of a sigmoid.
    With m[j] the mean activation of unit j over a batch, the penalty is the
    Kullback-Leibler divergence of two coins,

        factor * sum over j of KL(rho || m[j]),
        KL(p || q) = p log(p / q) + (1 - p) log((1 - p) / (1 - q)),

    which is zero where every mean is `rho`. Places of an image and steps of a sequence
    count as samples of the batch. Means of 0 or less, and of 1 or more, have no slope.

    Called by itself it gives that times the size of the batch, for Keras divides by it.

    Args:
        factor: At least 0. `regularizer.factor = 0.01` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.
        rho: The mean activation to reach, between 0 and 1.

    Raises:
        ValueError: If `factor` is negative or not finite, if `rho` is not between 0 and
            1, if the activations have no axis of units, or if weights are given.

    References:
        Ng: Sparse Autoencoder. CS294A Lecture Notes, Stanford University, 2011.

    Example:

    >>> penalty = kopt.regularizers.KLSparsity(1.0, rho=0.25)
    >>> rare = np.array([[1.0], [0.0], [0.0], [0.0]])
    >>> [round(float(penalty.penalty(a)), 4) for a in (rare, 1 - rare)]
    [0.0, 0.5493]
    """

    _traits = Traits(
        configs=({"factor": 0.3}, {}, {"rho": 0.4}),
        shapes=((7, 3), (2, 3, 3, 5)),
        penalizes="activations",
        values="unit",
    )

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(self, factor: float | keras.Variable = 0.1, rho: float = 0.05) -> None:
        self.factor = factor
        self.rho = _checks.number(
            "rho", rho, low=0.0, high=1.0, low_open=True, high_open=True
        )

    def penalty(self, weights: Any) -> Any:
        mean = ops.mean(by_sample(weights), axis=0)
        mean = ops.clip(mean, _MARGIN, 1 - _MARGIN)
        rho = self.rho
        active = rho * ops.log(rho / mean)
        silent = (1 - rho) * ops.log((1 - rho) / (1 - mean))
        return self._factor * ops.sum(active + silent)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "rho": self.rho}
