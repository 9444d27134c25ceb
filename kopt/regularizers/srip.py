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
class SRIP(Penalty):
    """Spectral restricted isometry: keeps what a layer does to the length of inputs.

    The penalty is `factor` times the spectral norm of `W^T W - I`: the furthest that
    the square of a singular value of W is from 1. Where `SoftOrthogonal` acts on all
    singular values, this acts on the worst one. W is the matrix that `SoftOrthogonal`
    describes; with more outputs than inputs it is transposed.

    Args:
        factor: At least 0. `regularizer.factor = 1e-3` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.
        iterations: `None` finds the norm exactly, by the eigenvalues of a matrix with
            the smaller side of W, which takes time for sides of many hundreds. A whole
            number takes so many power iterations from a fixed start: the value is then
            at most the norm. The paper's two products are `iterations=1`.

    Raises:
        ValueError: If `factor` is negative or not finite, `iterations` is below 1, or
            the weights are no kernel of at least 2 axes.

    References:
        Bansal, Chen, Wang: Can We Gain More from Orthogonality Regularizations in
        Training Deep CNNs?, 2018, arXiv:1810.09102.

    Example:

    >>> kernel = np.diag([1.0, 2.0, 0.5])  # squares of 1, 4 and 0.25
    >>> float(kopt.regularizers.SRIP(1.0)(kernel))
    3.0
    """

    _traits = Traits(
        configs=({"factor": 0.3}, {}, {"factor": 0.3, "iterations": 2}),
        shapes=((5, 3), (3, 5), (3, 3, 4, 6)),
    )

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(
        self, factor: float | keras.Variable = 1e-4, iterations: int | None = None
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
        excess = _matrices.excess(weights)
        if self.iterations is None:
            # v^T (W^T W - I) v is the eigenvalue, up to its sign.
            vectors = _matrices.leading(excess)
            products = ops.matmul(excess, vectors)
            norms = ops.abs(ops.sum(vectors * products, axis=(1, 2)))
        else:
            vectors = _matrices.first_guess(excess.shape[-1], excess.dtype)
            for _ in range(self.iterations):
                vectors = _matrices.unit(ops.matmul(excess, vectors))
            norms = _matrices.length(ops.matmul(excess, vectors))
        return self._factor * ops.sum(norms)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "iterations": self.iterations}
