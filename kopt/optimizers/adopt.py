"""ADOPT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step


@register("optimizers")
class ADOPT(Optimizer):
    """ADOPT: Adam that converges whatever its `beta_2`.

    A gradient is divided by the second moment of those before it, not of itself, and
    then enters the momentum. The first update only measures: it moves nothing but what
    weight decay takes. So that a gradient much larger than those before it does no
    harm, the quotient is clipped at (t - 1)^clip_exponent.

        x = clip(g / max(sqrt(v), epsilon), (t - 1)^clip_exponent)
        m = beta_1 m + (1 - beta_1) x
        w = w - learning_rate m
        v = beta_2 v + (1 - beta_2) g^2                  (v = g^2 in the first update)

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        beta_1: Decay of the momentum, in [0, 1). Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.9999`.
        epsilon: Smallest divisor of a gradient. Defaults to `1e-6`.
        clip_exponent: How the bound on a normalized gradient grows with the updates,
            at least 0, or `None` for no bound. Defaults to `0.25`.
        name: Name of the optimizer. Defaults to `"adopt"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Taniguchi et al., 2024, "ADOPT: Modified Adam Can Converge with Any beta_2 with
        the Optimal Rate", arXiv:2411.02853.

    Example:

    >>> weight = keras.Variable([1.0])
    >>> optimizer = kopt.ADOPT(learning_rate=0.1, beta_1=0.0)
    >>> for gradient in ([2.0], [1.0], [100.0]):
    ...     optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    ...     print(weight.numpy().round(4))  # measured; half as large; clipped
    [1.]
    [0.95]
    [0.8311]
    """

    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.9999,
        epsilon: float = 1e-6,
        clip_exponent: float | None = 0.25,
        name: str = "adopt",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.epsilon = _checks.number("epsilon", epsilon, low=0, low_open=True)
        if clip_exponent is not None:
            _checks.number("clip_exponent", clip_exponent, low=0)
        self.clip_exponent = clip_exponent

    def slots(self, variable: Any) -> dict[str, float]:
        return {"momentum": 0.0, "velocity": 0.0}

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        one = ops.ones_like(step.number)
        first = step.number <= 1
        share = 1 - self.present("beta_1", step)
        shared = {
            "share_1": ops.where(first, 0 * one, share * one),
            "share_2": ops.where(first, one, (1 - self.beta_2) * one),
        }
        if self.clip_exponent is not None:
            shared["limit"] = ops.power(step.number - 1, self.clip_exponent)
        return shared

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        m, v = state["momentum"], state["velocity"]
        normal = gradient / ops.maximum(ops.sqrt(v), self.epsilon)
        if "limit" in step.shared:
            limit = step.shared["limit"]
            normal = ops.clip(normal, -limit, limit)
        m = m + step.shared["share_1"] * (normal - m)
        v = v + step.shared["share_2"] * (ops.square(gradient) - v)
        return m, {"momentum": m, "velocity": v}
