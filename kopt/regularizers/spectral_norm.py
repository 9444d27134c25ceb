from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt import _checks
from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers import _matrices
from kopt.regularizers._penalty import Penalty, Traits


@register("regularizers")
class SpectralNorm(Penalty):
    """`factor` times the square of a kernel's largest singular value.

    That is how much the layer can magnify a change of its input, so the penalty makes
    a model less sensitive to small ones. Where L2 shrinks all directions, this shrinks
    the one that is magnified most.

    The matrix has a column for each output and a row for each input and place of the
    window. The channels of a depthwise kernel and the gates of a recurrent one have a
    matrix each, and the squares are summed.

    Args:
        factor: At least 0; half of the paper's lambda. `regularizer.factor = 1e-3`
            moves it, for compiled steps too. A scalar `keras.Variable` is used itself,
            so that one variable can steer several regularizers.
        iterations: `None` finds the norm exactly, by the eigenvalues of a matrix with
            the smaller side of the kernel's, which takes time for sides of many
            hundreds. A whole number takes so many power iterations from a fixed start:
            the value is then at most the norm.

    Raises:
        ValueError: If `factor` is negative or not finite, `iterations` is below 1, or
            the weights are no kernel of at least 2 axes.

    References:
        Yoshida, Miyato: Spectral Norm Regularization for Improving the Generalizability
        of Deep Learning, 2017, arXiv:1705.10941 (which keeps a vector from step to
        step and takes one iteration).

    Example:

    >>> kernel = np.diag([1.0, 3.0, 2.0])
    >>> float(kopt.regularizers.SpectralNorm(0.5)(kernel))
    4.5
    """

    _traits = Traits(
        configs=({"factor": 0.3}, {}, {"factor": 0.3, "iterations": 3}),
        shapes=((5, 3), (3, 5), (3, 3, 4, 6)),
    )

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(
        self, factor: float | keras.Variable = 0.01, iterations: int | None = None
    ) -> None:
        self.factor = factor
        self.iterations = (
            None
            if iterations is None
            else _checks.integer("iterations", iterations, low=1)
        )

    def arranged(self, weights: Any, variable: keras.Variable | None) -> Any:
        return _matrices.arranged(weights, variable)

    def penalty(self, weights: Any) -> Any:
        across = ops.swapaxes(weights, 1, 2)
        if self.iterations is None:
            vectors = _matrices.leading(ops.matmul(across, weights))
        else:
            vectors = _matrices.first_guess(weights.shape[-1], weights.dtype)
            for _ in range(self.iterations):
                vectors = ops.matmul(across, ops.matmul(weights, vectors))
                vectors = _matrices.unit(vectors)
        return self._factor * ops.sum(ops.square(ops.matmul(weights, vectors)))

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "iterations": self.iterations}
