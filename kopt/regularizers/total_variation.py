from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kopt._kernels.axes import axes_of
from kopt._live_float import LiveFloat
from kopt._registry import register
from kopt.regularizers import _groups
from kopt.regularizers._penalty import Penalty, Traits


@register("regularizers")
class TotalVariation(Penalty):
    """`factor` times how much neighbouring weights differ: makes kernels smooth.

    The penalty is the sum of `|w[i + 1] - w[i]|` along the window of a convolution, in
    each direction. It leaves steps between two even parts of a kernel as they are, and
    takes out single weights that stand out.

    Args:
        factor: At least 0. `regularizer.factor = 1e-3` moves it, for compiled steps
            too. A scalar `keras.Variable` is used itself, so that one variable can
            steer several regularizers.
        axis: The axis, or axes, along which weights are neighbours. `None` takes the
            window of the layer's convolution, which are all axes but the last two.

    Raises:
        ValueError: If `factor` is negative or not finite, if `axis` is `None` and the
            weights have no window, or if they have no such axis.

    References:
        Rudin, Osher, Fatemi: Nonlinear Total Variation Based Noise Removal Algorithms.
        Physica D 60, 1992; here with the sum of absolute differences, direction by
        direction, in the place of lengths of gradients.

    Example:

    >>> penalty = kopt.regularizers.TotalVariation(1.0, axis=0)
    >>> [float(penalty(np.array(w))) for w in ([0.0, 0, 5, 5], [0.0, 5, 0, 5])]
    [5.0, 15.0]
    """

    _traits = Traits(
        configs=(
            {"factor": 0.3, "axis": -2},
            {"factor": 0.3, "axis": (-1, 0)},
            {"axis": 0},
        ),
        shapes=((5, 3), (3, 3, 4, 6)),
    )

    factor = LiveFloat(low=0.0)
    _factor: keras.Variable

    def __init__(
        self,
        factor: float | keras.Variable = 1e-4,
        axis: int | Sequence[int] | None = None,
    ) -> None:
        self.factor = factor
        self.axis = _groups.checked_axis(axis)

    def arranged(self, weights: Any, variable: keras.Variable | None) -> Any:
        if self.axis is not None or variable is None:
            return weights
        (axes,) = axes_of([variable])
        window = () if axes is None else axes.window
        if not window:
            raise ValueError(_no_window(variable.path, weights.shape))
        rest = [one for one in range(len(weights.shape)) if one not in window]
        return ops.transpose(weights, (*window, *rest))

    def penalty(self, weights: Any) -> Any:
        if self.axis is None and len(weights.shape) < 3:
            raise ValueError(_no_window("weights", weights.shape))
        along = tuple(range(len(weights.shape) - 2)) if self.axis is None else self.axis
        total = 0.0
        for axis in _groups.checked_axes_of(along, weights.shape):
            total += ops.sum(ops.abs(ops.diff(weights, axis=axis)))
        return self._factor * total

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "axis": self.axis}


def _no_window(name: str, shape: Sequence[int]) -> str:
    return (
        "`axis` must be given for weights without a window, in which nothing says what "
        f"is beside what. Received: axis=None for {name} of shape {tuple(shape)}. Give "
        "the penalty to convolutions, or the axis along which weights are neighbours."
    )
