"""RAdam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step
from kopt.optimizers.adam import moments, one_minus_power


@register("optimizers")
class RAdam(Optimizer):
    """Rectified Adam: Adam that warms up by itself.

    Use it where Adam needs a warm-up. The second moment of the first few gradients is
    a bad estimate; steps are shortened by how bad it is, and the very first ones do
    without it. As in the authors' code, `epsilon` is added to the root before its
    correction, and the first steps go along the corrected momentum.

        m = beta_1 m + (1 - beta_1) g          v = beta_2 v + (1 - beta_2) g^2
        l = L - 2 t beta_2^t / (1 - beta_2^t)  with L = 2 / (1 - beta_2) - 1
        r = sqrt((l - 4) (l - 2) L / ((L - 4) (L - 2) l))
        if l > threshold:
            w = w - learning_rate r sqrt(1 - beta_2^t) / (1 - beta_1^t)
                    m / (sqrt(v) + epsilon)
        otherwise:
            w = w - learning_rate m / (1 - beta_1^t)

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        beta_1: Decay of the first moment, in [0, 1). Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        epsilon: Added to the root of the second moment. Defaults to `1e-8`.
        threshold: Above which length of the moving average, in updates, the second
            moment is used, from 4 (the paper's; its authors' code takes 5). Defaults
            to `5.0`.
        name: Name of the optimizer. Defaults to `"radam"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Liu et al., 2019, "On the Variance of the Adaptive Learning Rate and Beyond",
        arXiv:1908.03265.

    Example:

    >>> weight = keras.Variable([0.0])
    >>> optimizer = kopt.RAdam(learning_rate=1.0)
    >>> for _ in range(8):
    ...     before = weight.numpy()
    ...     optimizer.apply([keras.ops.full((1,), 0.5)], [weight])
    ...     print((before - weight.numpy()).round(3), end=" ")
    [0.5] [0.5] [0.5] [0.5] [0.5] [0.026] [0.033] [0.039]
    """

    blockwise = True
    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        threshold: float = 5.0,
        name: str = "radam",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        self.threshold = _checks.number(
            "threshold",
            threshold,
            low=4,
            hint="The variance that it rectifies is infinite up to there.",
        )

    def slots(self, variable: Any) -> dict[str, float]:
        return {"momentum": 0.0, "velocity": 0.0}

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        beta_1 = self.present("beta_1", step)
        return rectification(beta_1, self.beta_2, self.threshold, step.number)

    def next_state(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> dict[str, Any]:
        return moments(gradient, state, self.present("beta_1", step), self.beta_2)

    def direction(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> Any:
        root = ops.sqrt(state["velocity"])
        size = ops.where(step.shared["adapts"] > 0, root + self.epsilon, 1.0)
        return step.shared["factor"] * state["momentum"] / size


def rectification(
    beta_1: Any, beta_2: float, threshold: float, number: Any
) -> dict[str, Any]:
    """What to multiply the momentum by in an update, and whether to divide it.

    Returns:
        `adapts`: whether the second moment is good enough to divide by its root.
        `factor`: the rectified bias correction if so, or else that of the momentum.
    """
    correction_1 = one_minus_power(beta_1, number)
    correction_2 = one_minus_power(beta_2, number)
    longest = 2 / (1 - beta_2) - 1
    if longest <= threshold:
        return {"adapts": ops.zeros_like(number), "factor": 1 / correction_1}
    length = longest - 2 * number * (1 - correction_2) / correction_2
    adapts = length > threshold

    def certainty(length: Any) -> Any:
        return (length - 4) * (length - 2) / length

    rectified = ops.sqrt(correction_2 * certainty(length) / certainty(longest))
    return {"adapts": adapts, "factor": ops.where(adapts, rectified, 1) / correction_1}
