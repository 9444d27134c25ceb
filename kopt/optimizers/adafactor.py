"""Adafactor."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import tensorflow as tf
from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step
from kopt.optimizers._factored import (
    Axes,
    excess,
    factor_slots,
    factored_axes,
    inverse_roots,
    root_mean_square,
    scaled_root_mean_square,
    track,
)
from kopt.optimizers._plan import Slot
from kopt.optimizers._update import FUSE_FROM


@register("optimizers")
class Adafactor(Optimizer):
    """Adafactor: steps scaled like Adam's, from a row and a column for each matrix.

    For models whose weights fill the memory: a matrix of 1000 x 500 has 1,500 numbers
    of state, where Adam has a million. Arguments and defaults are those of
    `keras.optimizers.Adafactor`, which in addition keeps the full matrix, does not
    heed `relative_step=False` and always factors the last two axes.

        s = t^beta_2_decay                       V = V + s (g^2 + epsilon_1 - V)
        u = g / sqrt(V)                          u = u / max(1, rms(u) / clip_threshold)
        rate = min(learning_rate, 1 / sqrt(t)) max(epsilon_2, rms(w))
        w = w - rate u

    Of V only the row means r and the column means c are kept, and r c / mean(r) stands
    for it.

    Args:
        learning_rate: A number, a schedule or a function without arguments; the share
            of its own size that a variable moves. Defaults to `0.001`; the paper uses
            `0.01`.
        beta_2_decay: Exponent of the share with which new squares enter the second
            moment, below 0. Defaults to `-0.8`.
        epsilon_1: Added to the squared gradient. Defaults to `1e-30`.
        epsilon_2: Smallest size at which a variable is counted. Defaults to `1e-3`.
        clip_threshold: Largest root mean square of an update before it is multiplied
            by its rate. Defaults to `1.0`.
        relative_step: Keep the learning rate, a schedule's too, below `1 / sqrt(t)`.
            Defaults to `True`.
        beta_1: Decay of a momentum of the updates, in [0, 1), at the cost of one full
            slot. Defaults to `None`, no momentum.
        scale_parameter: Multiply the learning rate by the variable's root mean square.
            Defaults to `True`.
        min_dim_size_to_factor: A variable keeps its full second moment if its two
            longest axes are not both at least as long. Defaults to `128`; Keras
            factors from 1 on.
        name: Name of the optimizer. Defaults to `"adafactor"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Shazeer & Stern, 2018, "Adafactor: Adaptive Learning Rates with Sublinear
        Memory Cost", arXiv:1804.04235.

    Example:

    >>> kernel = keras.Variable(np.ones((1000, 500)))
    >>> optimizer = kopt.Adafactor()
    >>> optimizer.build([kernel])
    >>> for name, slot in optimizer.state(kernel).items():
    ...     print(name, slot.shape)
    row (1000, 1)
    column (1, 500)
    """

    # The rows of a matrix share their columns' moments.
    elementwise = False
    measures = True
    scales_itself = True

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        beta_1: float | None = None,
        scale_parameter: bool = True,
        min_dim_size_to_factor: int = 128,
        name: str = "adafactor",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_2_decay = _checks.number(
            "beta_2_decay",
            beta_2_decay,
            high=0,
            high_open=True,
            hint="The second moment's decay is 1 - t ** beta_2_decay.",
        )
        self.epsilon_1 = _checks.number("epsilon_1", epsilon_1, low=0)
        self.epsilon_2 = _checks.number("epsilon_2", epsilon_2, low=0)
        self.clip_threshold = _checks.number(
            "clip_threshold", clip_threshold, low=0, low_open=True
        )
        self.relative_step = bool(relative_step)
        if beta_1 is not None:
            _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_1 = beta_1
        self.may_move = ("beta_1",) if beta_1 else ()
        self.scale_parameter = bool(scale_parameter)
        self.min_dim_size_to_factor = _checks.integer(
            "min_dim_size_to_factor", min_dim_size_to_factor, low=1
        )

    def traits(self, variable: Any) -> Axes | None:
        """The axes over which the second moment is factored."""
        return factored_axes(variable.shape, self.min_dim_size_to_factor)

    def slots(self, variable: Any) -> dict[str, float | Slot]:
        slots: dict[str, float | Slot] = {"momentum": 0.0} if self.beta_1 else {}
        axes = self.traits(variable)
        if axes is None:
            return {**slots, "velocity": 0.0}
        row, column = factor_slots(variable.shape, axes)
        return {**slots, "row": row, "column": column}

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        share = ops.exp(self.beta_2_decay * ops.log(step.number))
        return {"share": share, "limit": ops.rsqrt(step.number)}

    def measure(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> dict[str, Any]:
        share, axes = step.shared["share"], step.traits
        if axes is None:
            v = state["velocity"]
            length = _whole_length(gradient, v, share, self.epsilon_1)
            new, scales = {}, []
        else:
            squares = ops.square(gradient)
            row, column = track(
                state["row"], state["column"], squares, axes, share, self.epsilon_1
            )
            new = {"row": row, "column": column}
            scales = [*inverse_roots(row, column, axes)]
            length = scaled_root_mean_square(squares, row, column, axes)
        rate = self._rate(variable, step) / excess(length, self.clip_threshold)
        return {"state": new, "rate": rate, "scales": scales}

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        new, scales = dict(step.measured["state"]), step.measured["scales"]
        if step.traits is None:
            # Made once more: to write it down for `measure` takes longer.
            share, v = step.shared["share"], state["velocity"]
            new["velocity"] = _moved(v, gradient, share, self.epsilon_1)
            scales = [ops.rsqrt(new["velocity"])]
        u = gradient * (step.measured["rate"] * scales[0])
        for scale in scales[1:]:
            u = u * scale
        if self.beta_1:
            share_1 = 1 - self.present("beta_1", step)
            u = state["momentum"] + share_1 * (u - state["momentum"])
            new["momentum"] = u
        return u, new

    def _rate(self, variable: Any, step: Step) -> Any:
        rate = step.learning_rate
        if self.relative_step:
            rate = ops.minimum(rate, step.shared["limit"])
        if self.scale_parameter:
            rate = rate * ops.maximum(root_mean_square(variable), self.epsilon_2)
        return rate


def _moved(velocity: Any, gradient: Any, share: Any, epsilon: float) -> Any:
    return velocity + share * (ops.square(gradient) + epsilon - velocity)


def _whole_length(gradient: Any, velocity: Any, share: Any, epsilon: float) -> Any:
    """The root mean square of an update whose second moment is not factored."""
    # An embedding's gradient does not know its height before it is there.
    size = math.prod(velocity.shape)
    total = _sum_of_squares
    if size >= FUSE_FROM:
        total = _compiled_sum(tuple(velocity.shape), velocity.dtype)
    return ops.sqrt(total(gradient, velocity, share, epsilon) / size)


def _sum_of_squares(gradient: Any, velocity: Any, share: Any, epsilon: float) -> Any:
    u = gradient * ops.rsqrt(_moved(velocity, gradient, share, epsilon))
    # XLA divides rows among the cores, and makes a sum of everything on one.
    rows = ops.sum(ops.square(u), axis=-1) if len(u.shape) else ops.square(u)
    return ops.sum(rows)


@functools.cache
def _compiled_sum(*_signature: Any) -> Callable[..., Any]:
    # In one pass over memory that writes nothing down.
    return tf.function(_sum_of_squares, jit_compile=True, autograph=False)
