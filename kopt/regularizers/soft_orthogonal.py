from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers import _matrices
from kopt.regularizers._penalty import Penalty, Traits


@register("regularizers")
class SoftOrthogonal(Penalty):
    """Draws the columns of a kernel's matrix towards orthogonal ones of length 1.

    Orthonormal columns keep the size of what passes through a layer, and no two units
    learn the same. The penalty is

        factor * ||W^T W - I||^2, the sum of squares

    where W has a column for each output and a row for each input and place of the
    window. With more outputs than inputs the columns cannot all be orthogonal: then the
    rows are drawn to that, by `||W W^T - I||^2`. The two differ by a constant, so their
    gradients are the same, and a penalty on both is this one twice. The channels of a
    depthwise kernel and the gates of a recurrent one have a matrix each.

    Args:
        factor: At least 0. `regularizer.factor = 1e-3` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.

    Raises:
        ValueError: If `factor` is negative or not finite, or if the weights are no
            kernel of at least 2 axes.

    References:
        Bansal, Chen, Wang: Can We Gain More from Orthogonality Regularizations in
        Training Deep CNNs?, 2018, arXiv:1810.09102.

    Example:

    >>> penalty = kopt.regularizers.SoftOrthogonal(1.0)
    >>> [float(penalty(kernel)) for kernel in (np.eye(3), 2 * np.eye(3))]
    [0.0, 27.0]
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
        return self._factor * ops.sum(ops.square(_matrices.excess(weights)))

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor}
