from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers import _groups
from kopt.regularizers._penalty import Traits
from kopt.regularizers._proximal import ProximalPenalty


@register("regularizers")
class GroupLasso(ProximalPenalty):
    """`factor` times the sum of the lengths of groups: empties whole groups of weights.

    Where L1 zeroes weights here and there, this shrinks all weights of a neuron, filter
    or channel together, so that it can be removed and the model gets smaller and
    faster. The penalty on weights W with groups W_g of p weights each is

        factor * sqrt(p) * sum over g of ||W_g||

    An optimizer that divides each gradient by its running size, such as Adam or
    RMSprop, divides the penalty's gradient with it, so the weights of a group are no
    longer shrunk in proportion. With SGD the penalty acts as written. No gradient step
    lands on exactly zero: for that there is `proximal=True`, with which a kopt
    optimizer takes `learning_rate * factor * sqrt(p)` off the length of each group
    after its step, and sets those to zero that are shorter. What it empties,
    `kopt.pruning.remove_filters` takes out of the model. `L1` says what that means
    with adaptive optimizers.

    Args:
        factor: At least 0. `regularizer.factor = 1e-3` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.
        axis: The axis, or axes, that number the groups; a group spans the others.
            `None` makes a group of each output unit of the layer that the weights
            belong to: of each neuron or filter, each channel of a depthwise
            convolution, each dimension of each head in attention, each dimension of
            an embedding, and in a recurrent layer each unit's columns in all gates
            together (the row through which its state comes back is not part of the
            group). Weights of no layer have theirs on the last axis. On a kernel of
            shape `(..., inputs, outputs)`, -2 is for inputs and `(-2, -1)` for the
            single 2-D kernels of a convolution. Defaults to `None`.
        scale_by_size: Whether to include `sqrt(p)`, without which layers with large
            groups are penalized less for each weight.
        proximal: Whether the optimizer applies the penalty after its step. It has to
            be one of kopt's; in wrappers, what is evaluated has the same zeros.

    Raises:
        ValueError: If `factor` is negative or not finite, if the weights have no such
            axis, or when training begins with `proximal=True` and another optimizer.

    References:
        Yuan, Lin: Model Selection and Estimation in Regression with Grouped Variables.
        Journal of the Royal Statistical Society B 68, 2006. Wen, Wu, Wang, Chen, Li:
        Learning Structured Sparsity in Deep Neural Networks, 2016, arXiv:1608.03665
        (without `sqrt(p)`).

    Example:

    >>> kernel = np.array([[3.0, 0.0], [4.0, 0.0]])  # the second neuron is empty
    >>> float(kopt.regularizers.GroupLasso(0.5, scale_by_size=False)(kernel))
    2.5
    >>> float(kopt.regularizers.GroupLasso(0.5, -2, scale_by_size=False)(kernel))
    3.5
    """

    _traits = Traits(
        configs=(
            {"factor": 0.3},
            {},
            {"factor": 0.3, "scale_by_size": False},
            {"factor": 0.3, "axis": -2},
            {"factor": 0.3, "axis": -1},
            {"factor": 0.3, "axis": (-2, -1)},
        ),
        shapes=((5, 3), (3, 3, 4, 6)),
    )

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(
        self,
        factor: float | keras.Variable = 1e-4,
        axis: int | Sequence[int] | None = None,
        *,
        scale_by_size: bool = True,
        proximal: bool = False,
    ) -> None:
        self.factor = factor
        self.axis = _groups.checked_axis(axis)
        self.scale_by_size = bool(scale_by_size)
        self.proximal = bool(proximal)

    def arranged(self, weights: Any, variable: keras.Variable | None) -> Any:
        return _groups.arranged(weights, variable, self.axis)

    def penalty(self, weights: Any) -> Any:
        lengths, size = _groups.lengths(weights, self.axis)
        scale = math.sqrt(size) if self.scale_by_size else 1.0
        return self._factor * (scale * ops.sum(lengths))

    def shrunk(self, weights: Any, variable: keras.Variable, rate: Any) -> Any:
        amount = rate * ops.cast(self._factor, weights.dtype)
        return _groups.shortened(
            weights, variable, self.axis, amount, scale_by_size=self.scale_by_size
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "axis": self.axis,
            "scale_by_size": self.scale_by_size,
            "proximal": self.proximal,
        }
