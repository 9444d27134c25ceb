from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers._activations import ActivityPenalty, by_sample
from kopt.regularizers._penalty import Traits

# Smaller probabilities, whose logarithm has no bound, are taken as this.
_SMALLEST = 1e-7


@register("regularizers")
class ConfidencePenalty(ActivityPenalty):
    """Penalizes predictions that are surer than the data let them be.

    An activity regularizer for the layer that puts out class probabilities p, on its
    last axis. The penalty is `factor` times the negative entropy of a prediction,

        factor * mean over samples of (sum over classes of p log p)

    It is at most 0, and least where all classes are equally likely. Where label
    smoothing moves every target, this only holds back predictions that are certain.

    Called by itself it gives that times the size of the batch, for Keras divides by it.

    Args:
        factor: At least 0; the paper's beta. `regularizer.factor = 0.01` moves it, for
            compiled steps too. A scalar `keras.Variable` is used itself, so that one
            variable can steer several regularizers.
        from_logits: Whether the layer puts out logits, of which `p` is the softmax.

    Raises:
        ValueError: If `factor` is negative or not finite, if the activations have no
            axis of classes, or if weights are given.

    References:
        Pereyra, Tucker, Chorowski, Kaiser, Hinton: Regularizing Neural Networks by
        Penalizing Confident Output Distributions, 2017, arXiv:1701.06548.

    Example:

    >>> penalty = kopt.regularizers.ConfidencePenalty(1.0)
    >>> sure, unsure = np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])
    >>> [round(float(penalty.penalty(p)), 4) for p in (sure, unsure)]
    [0.0, -0.6931]
    """

    _traits = Traits(
        configs=({"factor": 0.3}, {}, {"from_logits": True}),
        shapes=((7, 3), (2, 3, 3, 5)),
        penalizes="activations",
        values="unit",
        is_flat_at_zero=False,
    )

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(
        self, factor: float | keras.Variable = 0.1, *, from_logits: bool = False
    ) -> None:
        self.factor = factor
        self.from_logits = bool(from_logits)

    def penalty(self, weights: Any) -> Any:
        samples = by_sample(weights)
        if self.from_logits:
            logarithm = ops.log_softmax(samples, axis=-1)
            probability = ops.exp(logarithm)
        else:
            probability = samples
            logarithm = ops.log(ops.maximum(probability, _SMALLEST))
        return self._factor * ops.mean(ops.sum(probability * logarithm, axis=-1))

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "from_logits": self.from_logits}
