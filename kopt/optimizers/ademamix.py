"""AdEMAMix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step
from kopt.optimizers.adam import log, one_minus_power


@register("optimizers")
class AdEMAMix(Optimizer):
    """AdEMAMix: Adam with a second momentum that remembers ten thousand steps.

    For long training, where old gradients still say something. The slow momentum n has
    no bias correction: it fills by and by. Its decay and its weight are best warmed up
    over the whole training (`beta_3_warmup`, `alpha_warmup`); started at once, they can
    diverge early.

        m = beta_1 m + (1 - beta_1) g            v = beta_2 v + (1 - beta_2) g^2
        n = beta_3(t) n + (1 - beta_3(t)) g
        w = w - learning_rate (m / (1 - beta_1^t) + alpha(t) n)
                / (sqrt(v / (1 - beta_2^t)) + epsilon)

    With p = min(t / warmup, 1), alpha(t) = p alpha, and the half-life of beta_3(t) goes
    in a line from that of beta_1 to that of beta_3: 1 / log beta_3(t) =
    (1 - p) / log beta_1 + p / log beta_3.

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        beta_1: Decay of the fast momentum, in [0, 1). Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        beta_3: Decay of the slow momentum, in (0, 1). For trainings of some thousand
            steps take `0.999`. Defaults to `0.9999`.
        alpha: Weight of the slow momentum, 4 to 10 in the paper. Defaults to `5.0`.
        alpha_warmup: Updates until `alpha` is reached. Defaults to `None`, at once.
        beta_3_warmup: Updates until `beta_3` is reached. Defaults to `None`, at once.
        epsilon: Added to the corrected root of the second moment. Defaults to `1e-8`.
        name: Name of the optimizer. Defaults to `"ademamix"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        TypeError: If a warm-up is not a whole number.
        ValueError: For a number outside its range.

    References:
        Pagliardini, Ablin & Grangier, 2024, "The AdEMAMix Optimizer: Better, Faster,
        Older", arXiv:2409.03137.

    Example:

    >>> weight = keras.Variable([1.0])
    >>> optimizer = kopt.AdEMAMix(learning_rate=0.1, beta_1=0.0, beta_3=0.9)
    >>> for gradient in ([1.0], [0.0]):
    ...     optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    ...     print(weight.numpy().round(4))  # the slow momentum goes on
    [0.85]
    [0.7863]
    """

    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        beta_3: float = 0.9999,
        alpha: float = 5.0,
        alpha_warmup: int | None = None,
        beta_3_warmup: int | None = None,
        epsilon: float = 1e-8,
        name: str = "ademamix",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.beta_3 = _checks.number(
            "beta_3", beta_3, low=0, high=1, low_open=True, high_open=True
        )
        self.alpha = _checks.number("alpha", alpha, low=0)
        self.alpha_warmup = _checked_warmup("alpha_warmup", alpha_warmup)
        self.beta_3_warmup = _checked_warmup("beta_3_warmup", beta_3_warmup)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)

    def slots(self, variable: Any) -> dict[str, float]:
        return {"momentum": 0.0, "slow_momentum": 0.0, "velocity": 0.0}

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        beta_1 = self.present("beta_1", step)
        root = ops.sqrt(one_minus_power(self.beta_2, step.number))
        alpha = self.alpha * _progress(step.number, self.alpha_warmup)
        return {
            "fast": root / one_minus_power(beta_1, step.number),
            "slow": root * alpha,
            "slow_share": self._slow_share(step.number, beta_1),
            "epsilon": root * self.epsilon,
        }

    def _slow_share(self, number: Any, beta_1: Any) -> Any:
        """`1 - beta_3(t)`."""
        progress = _progress(number, self.beta_3_warmup)
        # A decay of 0 has a half-life of 0.
        start = 1 / log(beta_1)
        inverse = (1 - progress) * start + progress * (1 / math.log(self.beta_3))
        return -ops.expm1(1 / inverse)

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        m, n, v = state["momentum"], state["slow_momentum"], state["velocity"]
        m = m + (1 - self.present("beta_1", step)) * (gradient - m)
        n = n + step.shared["slow_share"] * (gradient - n)
        v = v + (1 - self.beta_2) * (ops.square(gradient) - v)
        # The root of v is corrected in the coefficients, and in epsilon.
        mixed = step.shared["fast"] * m + step.shared["slow"] * n
        direction = mixed / (ops.sqrt(v) + step.shared["epsilon"])
        return direction, {"momentum": m, "slow_momentum": n, "velocity": v}


def _progress(number: Any, warmup: int | None) -> Any:
    """How much of a warm-up is done, up to 1; without one, all of it."""
    return ops.minimum(number / (warmup or 1), 1.0)


def _checked_warmup(name: str, steps: int | None) -> int | None:
    return None if steps is None else _checks.integer(name, steps, low=1)
