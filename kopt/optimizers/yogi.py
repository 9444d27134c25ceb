"""Yogi."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step
from kopt.optimizers.adam import one_minus_power


@register("optimizers")
class Yogi(Optimizer):
    """Yogi: Adam whose second moment forgets slowly.

    For gradients that are sparse or vary much in size, where Adam's steps grow too
    fast after a quiet spell: the second moment changes by a share of the present
    square only, up or down. The paper corrects no bias; like the authors' code (in
    TensorFlow Addons, with these defaults) this corrects it as Adam does, with
    `epsilon` outside.

        m = beta_1 m + (1 - beta_1) g          v = v - (1 - beta_2) sign(v - g^2) g^2
        c = sqrt(1 - beta_2^t) / (1 - beta_1^t)
        w = w - learning_rate c m / (sqrt(v) + epsilon)

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.01`.
        beta_1: Decay of the first moment, in [0, 1). Defaults to `0.9`.
        beta_2: One less the share of a square in the second moment, in [0, 1).
            Defaults to `0.999`.
        epsilon: Added to the root of the second moment; large ones adapt less.
            Defaults to `1e-3`.
        initial_accumulator_value: What the second moment starts from, from 0. Defaults
            to `1e-6`.
        name: Name of the optimizer. Defaults to `"yogi"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Zaheer et al., 2018, "Adaptive Methods for Nonconvex Optimization", NeurIPS.

    Example:

    >>> for method in (kopt.Adam, kopt.Yogi):
    ...     weight = keras.Variable([0.0])
    ...     optimizer = method(0.01, beta_2=0.9)
    ...     for gradient in [10.0] + [0.1] * 100:  # a large one, then small ones
    ...         optimizer.apply([keras.ops.full((1,), gradient)], [weight])
    ...     print(weight.numpy().round(2))
    [-0.56]
    [-0.08]
    """

    blockwise = True
    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-3,
        initial_accumulator_value: float = 1e-6,
        name: str = "yogi",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        self.initial_accumulator_value = _checks.number(
            "initial_accumulator_value", initial_accumulator_value, low=0
        )

    def slots(self, variable: Any) -> dict[str, float]:
        return {"momentum": 0.0, "velocity": self.initial_accumulator_value}

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        correction_1 = one_minus_power(self.present("beta_1", step), step.number)
        correction_2 = one_minus_power(self.beta_2, step.number)
        return {"correction": ops.sqrt(correction_2) / correction_1}

    def next_state(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> dict[str, Any]:
        m, v, square = state["momentum"], state["velocity"], ops.square(gradient)
        return {
            "momentum": m + (1 - self.present("beta_1", step)) * (gradient - m),
            "velocity": v - (1 - self.beta_2) * ops.sign(v - square) * square,
        }

    def direction(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> Any:
        m = step.shared["correction"] * state["momentum"]
        return m / (ops.sqrt(state["velocity"]) + self.epsilon)
