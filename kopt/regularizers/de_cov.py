from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers._activations import ActivityPenalty, by_sample
from kopt.regularizers._penalty import Traits


@register("regularizers")
class DeCov(ActivityPenalty):
    """Penalizes units of a layer that say the same: less overfitting.

    An activity regularizer. With C the covariance of the units over a batch, the mean
    of products of deviations from the mean, the penalty is

        factor * 1/2 * sum of C[i, j]^2 over all i != j

    so each pair of units counts once. Variances are not penalized. Places of an image
    and steps of a sequence count as samples of the batch.

    Called by itself it gives that times the size of the batch, for Keras divides by it.

    Args:
        factor: At least 0. `regularizer.factor = 0.01` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.

    Raises:
        ValueError: If `factor` is negative or not finite, if the activations have no
            axis of units, or if weights are given.

    References:
        Cogswell, Ahmed, Girshick, Zitnick, Batra: Reducing Overfitting in Deep Networks
        by Decorrelating Representations, 2015, arXiv:1511.06068.

    Example:

    >>> penalty = kopt.regularizers.DeCov(1.0)
    >>> same = np.array([[1.0, 1.0], [-1.0, -1.0]])
    >>> apart = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    >>> [float(penalty.penalty(activations)) for activations in (same, apart)]
    [1.0, 0.0]
    """

    _traits = Traits(
        configs=({"factor": 0.3}, {}),
        shapes=((7, 3), (2, 3, 3, 5)),
        penalizes="activations",
    )

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(self, factor: float | keras.Variable = 0.1) -> None:
        self.factor = factor

    def penalty(self, weights: Any) -> Any:
        samples = by_sample(weights)
        apart = samples - ops.mean(samples, axis=0, keepdims=True)
        count = ops.cast(ops.shape(samples)[0], samples.dtype)
        covariance = ops.matmul(ops.transpose(apart), apart) / count
        pairs = covariance * (1 - ops.eye(samples.shape[-1], dtype=samples.dtype))
        return self._factor * (0.5 * ops.sum(ops.square(pairs)))

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor}
