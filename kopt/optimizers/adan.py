"""Adan."""

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
class Adan(Optimizer):
    """Adan: Nesterov momentum from the differences of successive gradients.

    For vision and language models that are trained for few epochs; it bears learning
    rates 5 to 10 times those of AdamW, and needs four slots where Adam needs two. The
    betas are those of the authors' code, decays like everywhere in Keras (the paper
    writes one less them). Weight decay is proximal, as in the paper: the weights are
    divided by `1 + learning_rate weight_decay`. `epsilon` is added to the corrected
    root.

        d = g - last g                             (d = 0 in the first update)
        m = beta_1 m + (1 - beta_1) g              v = beta_2 v + (1 - beta_2) d
        n = beta_3 n + (1 - beta_3) (g + beta_2 d)^2
        u = (m / (1 - beta_1^t) + beta_2 v / (1 - beta_2^t))
            / (sqrt(n / (1 - beta_3^t)) + epsilon)
        w = (w - learning_rate u) / (1 + learning_rate weight_decay)

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        beta_1: Decay of the mean gradient, in [0, 1). Defaults to `0.98`.
        beta_2: Decay of the mean difference, in [0, 1). Defaults to `0.92`.
        beta_3: Decay of the second moment, in [0, 1). Defaults to `0.99`.
        epsilon: Added to the root of the second moment. Defaults to `1e-8`.
        name: Name of the optimizer. Defaults to `"adan"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`;
            for `weight_decay` the authors commonly take `0.02`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Xie et al., 2022, "Adan: Adaptive Nesterov Momentum Algorithm for Faster
        Optimizing Deep Models", arXiv:2208.06677.

    Example:

    >>> weight = keras.Variable([0.0, 0.0])
    >>> optimizer = kopt.Adan(learning_rate=1.0)
    >>> for gradient in ([1.0, 1.0], [0.5, 1.5]):
    ...     before = weight.numpy()
    ...     optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    >>> print((before - weight.numpy()).round(2))  # it looks ahead along the change
    [0.72 0.96]
    """

    decays_itself = True
    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.98,
        beta_2: float = 0.92,
        beta_3: float = 0.99,
        epsilon: float = 1e-8,
        name: str = "adan",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.beta_3 = _checks.number("beta_3", beta_3, low=0, high=1, high_open=True)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)

    def slots(self, variable: Any) -> dict[str, float]:
        return dict.fromkeys(
            ("momentum", "difference", "velocity", "previous_gradient"), 0.0
        )

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        beta_1 = self.present("beta_1", step)
        return {
            "momentum_share": 1 / one_minus_power(beta_1, step.number),
            "difference_share": self.beta_2 / one_minus_power(self.beta_2, step.number),
            "correction": ops.rsqrt(one_minus_power(self.beta_3, step.number)),
        }

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        m, v, n = state["momentum"], state["difference"], state["velocity"]
        change = gradient - state["previous_gradient"]
        change = ops.where(step.number > 1, change, 0.0)
        m = m + (1 - self.present("beta_1", step)) * (gradient - m)
        v = v + (1 - self.beta_2) * (change - v)
        n = n + (1 - self.beta_3) * (ops.square(gradient + self.beta_2 * change) - n)
        ahead = step.shared["momentum_share"] * m + step.shared["difference_share"] * v
        direction = ahead / (step.shared["correction"] * ops.sqrt(n) + self.epsilon)
        decay = step.weight_decay
        if decay is not None:
            # The proximal step as what it takes off the weights.
            shrunk = 1 + step.learning_rate * decay
            direction = (direction + decay * variable) / shrunk
        return direction, {
            "momentum": m,
            "difference": v,
            "velocity": n,
            "previous_gradient": gradient,
        }
