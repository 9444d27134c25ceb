from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers import _matrices
from kopt.regularizers._penalty import Penalty, Traits

# Singular values below this share of the largest are rounding errors of float32.
_RESOLUTION = 1e-6


@register("regularizers")
class NuclearNorm(Penalty):
    """`factor` times the sum of a kernel's singular values: lowers its rank.

    What L1 does to weights, this does to singular values, so that the kernel comes
    close to a product of two smaller ones.

    The matrix has a column for each output and a row for each input and place of the
    window. The channels of a depthwise kernel and the gates of a recurrent one have a
    matrix each. Each step decomposes it, which takes time for sides of many hundreds.

    Args:
        factor: At least 0. `regularizer.factor = 1e-3` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.

    Raises:
        ValueError: If `factor` is negative or not finite, or if the weights are no
            kernel of at least 2 axes.

    References:
        Fazel, Hindi, Boyd: A Rank Minimization Heuristic with Application to Minimum
        Order System Approximation. American Control Conference, 2001. The gradient is
        U V^T of the singular vectors whose values are not zero: the subgradient of
        least length where the rank is not full.

    Example:

    >>> kernel = np.diag([1.0, 3.0, 2.0])
    >>> round(float(kopt.regularizers.NuclearNorm(0.5)(kernel)), 5)
    3.0
    """

    _traits = Traits(
        configs=({"factor": 0.3}, {}), shapes=((5, 3), (3, 5), (3, 3, 4, 6))
    )

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(self, factor: float | keras.Variable = 1e-4) -> None:
        self.factor = factor

    def arranged(self, weights: Any, variable: keras.Variable | None) -> Any:
        return _matrices.arranged(weights, variable)

    def penalty(self, weights: Any) -> Any:
        left, values, right = ops.svd(ops.stop_gradient(weights), full_matrices=False)
        largest = ops.max(values, axis=-1, keepdims=True)
        counts = ops.cast(values > _RESOLUTION * largest, weights.dtype)
        slope = ops.matmul(left * ops.expand_dims(counts, 1), right)
        # The sum of the singular values is the scalar product of W and U V^T, and its
        # gradient is U V^T: those of the decomposition itself are infinite where two
        # values are equal.
        return self._factor * ops.sum(weights * ops.stop_gradient(slope))

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor}
