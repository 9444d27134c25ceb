from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt import _checks
from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers._penalty import Penalty, Traits

# Weights that differ by less, beside the largest, differ by rounding.
_RESOLUTION = 1e-6


@register("regularizers")
class KURE(Penalty):
    """Draws the distribution of the weights towards a uniform one, for quantization.

    Trained weights are bell-shaped: a few large ones stretch the range, and most of the
    steps of an integer grid lie where few weights are. The penalty is

        factor * (kurtosis(W) - target)^2

    where the kurtosis is the mean fourth power of the weights less their mean, divided
    by their standard deviation: 3 for a normal distribution, 1.8 for a uniform one. It
    does not depend on the scale of the weights.

    Args:
        factor: At least 0. `regularizer.factor = 0.5` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.
        target: The kurtosis to reach, at least 1, which no distribution is below.

    Raises:
        ValueError: If `factor` is negative or not finite, or `target` is below 1.

    References:
        Shkolnik, Chmiel, Banner, Shomron, Nahshan, Bronstein, Weiser: Robust
        Quantization: One Model to Rule Them All, 2020, arXiv:2002.07686. The paper
        takes the mean over the layers, here each has its own term: divide `factor` by
        their number. Weights that are all equal, which have no kurtosis, have no
        penalty here.

    Example:

    >>> penalty = kopt.regularizers.KURE()
    >>> uniform = np.linspace(-1, 1, 10_000)
    >>> round(float(penalty(uniform)), 4), round(float(penalty(uniform**5)), 2)
    (0.0, 15.7)
    """

    # The kurtosis is often near the target.
    _traits = Traits(configs=({"factor": 0.3}, {}, {"target": 2.5}), tolerance=2e-5)

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(
        self, factor: float | keras.Variable = 1.0, target: float = 1.8
    ) -> None:
        self.factor = factor
        self.target = _checks.number("target", target, low=1.0)

    def penalty(self, weights: Any) -> Any:
        # The scale cancels out; taken out before, fourth powers cannot overflow.
        largest = ops.stop_gradient(ops.max(ops.abs(weights)))
        centred = weights - ops.mean(weights)
        spread = ops.stop_gradient(ops.max(ops.abs(centred)))
        flat = (spread <= _RESOLUTION * largest) | (spread < 1.2e-38)
        centred = centred / ops.where(flat, 1.0, spread)
        variance = ops.where(flat, 1.0, ops.mean(ops.square(centred)))
        kurtosis = ops.mean(ops.square(ops.square(centred))) / ops.square(variance)
        return self._factor * ops.where(flat, 0.0, ops.square(kurtosis - self.target))

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "target": self.target}
