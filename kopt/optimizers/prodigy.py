"""Prodigy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step
from kopt.optimizers._plan import COMPENSATION, Slot
from kopt.optimizers.adam import one_minus_power


@register("optimizers")
class Prodigy(Optimizer):
    """Prodigy: Adam that finds its learning rate by itself.

    Leave `learning_rate` at 1, with a schedule that ends near 0 if you like; where
    training is unstable, lower `d_coef`. From how far the gradients have carried the
    weights it estimates the distance d from the first weights w_0 to good ones, for all
    variables together, and multiplies every step and decay by it. d starts tiny and
    grows in the first hundred or so updates; `optimizer.shared_state["d"]` shows it.

    With rate = d learning_rate (times Adam's bias correction if
    `use_bias_correction`), sums over all variables, and d' the d of the next update:

        r = beta_3 r + (d / d0) rate sum(g (w_0 - w))
        s = beta_3 s + (d / d0) rate g
        d_max = max(d_max, d_coef r / sum|s|)    d' = min(d_max, growth_rate d)
        m = beta_1 m + (1 - beta_1) d g          v = beta_2 v + (1 - beta_2) (d g)^2
        w = w - rate (m / (sqrt(v) + d' epsilon) + weight_decay w)

    As in the authors' code, `growth_rate` does not bind d's first step away from d0.
    w_0 is a weight as its first gradient finds it. Factors of `param_groups` apply to
    steps, and not to the estimate. Where weights are too coarse for the first steps
    (bfloat16, or float32 above 10), raise `d0`, or use `bf16_rounding`.

    Args:
        learning_rate: A number, a schedule or a function without arguments: a factor
            on the estimated rate. Defaults to `1.0`.
        beta_1: Decay of the first moment, in [0, 1). Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        beta_3: Decay of the estimate's sums, in [0, 1). Defaults to `None`, the root
            of `beta_2`.
        epsilon: Added to the root of the second moment, times d. Defaults to `1e-8`.
        d0: First estimate of d, far below the truth. Defaults to `1e-6`.
        d_coef: Factor on every estimate. Defaults to `1.0`.
        growth_rate: Largest factor by which d grows in one update, at least 1. Values
            like `1.02` warm up. Defaults to `None`, no limit.
        use_bias_correction: Correct Adam's moments for their start. Defaults to
            `False`.
        safeguard_warmup: Leave the learning rate out of s, for long warm-ups. Defaults
            to `False`.
        name: Name of the optimizer. Defaults to `"prodigy"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range, or with
            `weight_decay_mode="cautious"`, whose decay would leave out d.

    References:
        Mishchenko & Defazio, 2023, "Prodigy: An Expeditiously Adaptive Parameter-Free
        Learner", arXiv:2306.06101.

    Example:

    >>> weight = keras.Variable([3.0])
    >>> optimizer = kopt.Prodigy()
    >>> for _ in range(100):
    ...     optimizer.apply([2 * (weight - 1)], [weight])  # of (weight - 1)^2
    >>> print(weight.numpy().round(1), optimizer.shared_state["d"].numpy().round(1))
    [1.] 1.0
    """

    # The estimate is one for all rows.
    elementwise = False
    decays_itself = True
    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 1.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        beta_3: float | None = None,
        epsilon: float = 1e-8,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float | None = None,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        name: str = "prodigy",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        if beta_3 is not None:
            _checks.number("beta_3", beta_3, low=0, high=1, high_open=True)
        self.beta_3 = beta_3
        self.epsilon = _checks.number("epsilon", epsilon, low=0, low_open=True)
        self.d0 = _checks.number("d0", d0, low=0, low_open=True)
        self.d_coef = _checks.number("d_coef", d_coef, low=0, low_open=True)
        if growth_rate is not None:
            _checks.number("growth_rate", growth_rate, low=1)
        self.growth_rate = growth_rate
        self.use_bias_correction = bool(use_bias_correction)
        self.safeguard_warmup = bool(safeguard_warmup)
        if self.weight_decay_mode == "cautious":
            raise ValueError(
                '`weight_decay_mode="cautious"` would decay without the estimated rate '
                'of Prodigy. Use "decoupled".'
            )

    def shared_slots(self) -> dict[str, float]:
        return {"d": self.d0, "d_max": self.d0, "numerator": 0.0}

    def slots(self, variable: Any) -> dict[str, float | Slot]:
        # Rounded first weights would lie further from the present ones than most steps.
        exact = "float64" if variable.dtype == "float64" else "float32"
        first = Slot(tuple(variable.shape), dtype=exact)
        return {"momentum": 0.0, "velocity": 0.0, "gradient_sum": 0.0, "first": first}

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        d = factor = step.shared["d"]
        if self.use_bias_correction:
            root = ops.sqrt(one_minus_power(self.beta_2, step.number))
            beta_1 = self.present("beta_1", step)
            factor = factor * root / one_minus_power(beta_1, step.number)
        rate = factor * step.learning_rate
        weight = d / self.d0 * (d if self.safeguard_warmup else rate)
        progress, size = ops.zeros_like(d), ops.zeros_like(d)
        for gradient, variable, stored in zip(
            gradients, variables, states, strict=True
        ):
            state = {k: ops.cast(v, gradient.dtype) for k, v in stored.items()}
            present = ops.cast(variable, gradient.dtype) + state.get(COMPENSATION, 0)
            gone = _first_weights(state, present) - present
            progress += ops.cast(ops.sum(gradient * gone), d.dtype)
            s = self._gradient_sum(state, gradient, ops.cast(weight, gradient.dtype))
            size += ops.cast(ops.sum(ops.abs(s)), d.dtype)
        numerator = self._decay * step.shared["numerator"]
        numerator = numerator + d / self.d0 * rate * progress
        new_d, d_max = self._estimate(step.shared, numerator, size)
        return {
            "d": new_d,
            "d_max": d_max,
            "numerator": numerator,
            "old_d": d,
            "factor": factor,
            "weight": weight,
        }

    @property
    def _decay(self) -> float:
        return math.sqrt(self.beta_2) if self.beta_3 is None else self.beta_3

    def _gradient_sum(self, state: dict[str, Any], gradient: Any, weight: Any) -> Any:
        return self._decay * state["gradient_sum"] + weight * gradient

    def _estimate(
        self, present: dict[str, Any], numerator: Any, size: Any
    ) -> tuple[Any, Any]:
        """The next d, and the largest estimate so far."""
        d, some = present["d"], size > 0
        estimate = self.d_coef * numerator / ops.where(some, size, ops.ones_like(size))
        d_max = ops.where(
            some, ops.maximum(present["d_max"], estimate), present["d_max"]
        )
        if self.growth_rate is None:
            return d_max, d_max
        # d0 as it is stored is not quite d0.
        at_start = d <= self.d0 * (1 + 1e-6)
        base = ops.where(at_start & some, ops.maximum(d, estimate), d)
        return ops.minimum(d_max, self.growth_rate * base), d_max

    def proximal_rate(self, step: Step) -> Any:
        return step.learning_rate * step.shared["factor"]

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        m, v, shared = state["momentum"], state["velocity"], step.shared
        moved = shared["old_d"] * gradient
        new_m = m + (1 - self.present("beta_1", step)) * (moved - m)
        new_v = v + (1 - self.beta_2) * (ops.square(moved) - v)
        direction = new_m / (ops.sqrt(new_v) + shared["d"] * self.epsilon)
        if step.weight_decay is not None:
            direction = direction + step.weight_decay * variable
        return shared["factor"] * direction, {
            "momentum": new_m,
            "velocity": new_v,
            "gradient_sum": self._gradient_sum(state, gradient, shared["weight"]),
            "first": _first_weights(state, variable),
        }


def _first_weights(state: dict[str, Any], present: Any) -> Any:
    """The weights as the first gradient found them.

    They cannot be copied when the optimizer is built: a model may load its weights
    later.
    """
    return ops.where(state["velocity"] > 0, state["first"], present)
