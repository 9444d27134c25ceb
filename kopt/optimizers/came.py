"""CAME."""

from __future__ import annotations

from typing import Any, Unpack

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step
from kopt.optimizers._factored import (
    Axes,
    clip_root_mean_square,
    factor_slots,
    factored_axes,
    inverse_roots,
    track,
)
from kopt.optimizers._plan import Slot


@register("optimizers")
class CAME(Optimizer):
    """CAME: Adafactor with momentum, slower where updates disagree with it.

    For large models: beside one momentum, a matrix has two rows and two columns of
    state. How far an update lies from its momentum is tracked like a second moment, and
    the momentum is divided by its root. Take 0.5 to 0.9 of AdamW's learning rate.

        V = beta_2 V + (1 - beta_2) (g^2 + epsilon_1)
        u = g / sqrt(V)                          u = u / max(1, rms(u) / clip_threshold)
        m = beta_1 m + (1 - beta_1) u
        S = beta_3 S + (1 - beta_3) ((u - m)^2 + epsilon_2)
        w = w - learning_rate m / sqrt(S)

    Of V and S only the row means r and the column means c are kept, and r c / mean(r)
    stands for each. A variable of one axis has all of V and no S: it moves by the
    learning rate times m.

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.0002`.
        beta_1: Decay of the momentum, in [0, 1). Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        beta_3: Decay of the instability S, in [0, 1), above `beta_2`. Defaults to
            `0.9999`.
        epsilon_1: Added to the squared gradient. Defaults to `1e-30`.
        epsilon_2: Added to the squared distance from the momentum. Defaults to
            `1e-16`.
        clip_threshold: Largest root mean square of an update before it enters the
            momentum. Defaults to `1.0`.
        name: Name of the optimizer. Defaults to `"came"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Luo et al., 2023, "CAME: Confidence-guided Adaptive Memory Efficient
        Optimization", arXiv:2307.02047.

    Example:

    >>> kernel = keras.Variable(np.ones((1000, 500)))
    >>> optimizer = kopt.CAME()
    >>> optimizer.build([kernel])
    >>> sum(int(np.prod(slot.shape)) for slot in optimizer.state(kernel).values())
    503000
    """

    # The rows of a matrix share their columns' moments.
    elementwise = False
    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.0002,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        beta_3: float = 0.9999,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-16,
        clip_threshold: float = 1.0,
        name: str = "came",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.beta_3 = _checks.number("beta_3", beta_3, low=0, high=1, high_open=True)
        self.epsilon_1 = _checks.number("epsilon_1", epsilon_1, low=0)
        self.epsilon_2 = _checks.number("epsilon_2", epsilon_2, low=0)
        self.clip_threshold = _checks.number(
            "clip_threshold", clip_threshold, low=0, low_open=True
        )

    def traits(self, variable: Any) -> Axes | None:
        """The axes over which the second moments are factored."""
        return factored_axes(variable.shape)

    def slots(self, variable: Any) -> dict[str, float | Slot]:
        axes = self.traits(variable)
        if axes is None:
            return {"momentum": 0.0, "velocity": 0.0}
        row, column = factor_slots(variable.shape, axes)
        return {
            "momentum": 0.0,
            "row": row,
            "column": column,
            "instability_row": row,
            "instability_column": column,
        }

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        squares, share = ops.square(gradient), 1 - self.beta_2
        axes = step.traits
        if axes is None:
            v = state["velocity"]
            v = v + share * (squares + self.epsilon_1 - v)
            m = self._momentum(gradient * ops.rsqrt(v), state, step)[0]
            return m, {"momentum": m, "velocity": v}
        row, column = track(
            state["row"], state["column"], squares, axes, share, self.epsilon_1
        )
        u = _scaled(gradient, row, column, axes)
        m, distance = self._momentum(u, state, step)
        unstable_row, unstable_column = track(
            state["instability_row"],
            state["instability_column"],
            ops.square(distance),
            axes,
            1 - self.beta_3,
            self.epsilon_2,
        )
        return _scaled(m, unstable_row, unstable_column, axes), {
            "momentum": m,
            "row": row,
            "column": column,
            "instability_row": unstable_row,
            "instability_column": unstable_column,
        }

    def _momentum(
        self, update: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, Any]:
        """The next momentum, and how far the clipped update lies from it."""
        update = clip_root_mean_square(update, self.clip_threshold)
        share = 1 - self.present("beta_1", step)
        m = state["momentum"] + share * (update - state["momentum"])
        return m, update - m


def _scaled(values: Any, row: Any, column: Any, axes: Axes) -> Any:
    for root in inverse_roots(row, column, axes):
        values = values * root
    return values
