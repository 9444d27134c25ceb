"""MARS."""

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
class MARS(Optimizer):
    """MARS: AdamW on gradients whose noise is reduced by the change since the last.

    The approximate form for AdamW of the paper, which takes one gradient an update: the
    last update's stands for the last weights' gradient on the present batch. Kernels
    and embeddings are corrected; variables of one axis and scalars take AdamW's steps
    with decays of their own, as in the authors' code.

        c = g + gamma beta_1 / (1 - beta_1) (g - last g)       c = c / max(1, |c|)
        m = beta_1 m + (1 - beta_1) c        v = beta_2 v + (1 - beta_2) c^2
        w = w - learning_rate m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)

    Before the first update, the last gradient is zero.

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.003`.
        beta_1: Decay of the first moment, in [0, 1). Defaults to `0.95`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.99`.
        gamma: Strength of the correction; at 0 there is none. Defaults to `0.025`.
        epsilon: Added to the corrected root of the second moment. Defaults to `1e-8`.
        optimize_1d: Correct variables of one axis and scalars as well. Defaults to
            `False`.
        beta_1_1d: Decay of their first moment otherwise, in [0, 1). Defaults to `0.9`.
        beta_2_1d: Decay of their second moment otherwise, in [0, 1). Defaults to
            `0.95`.
        name: Name of the optimizer. Defaults to `"mars"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Yuan et al., 2024, "MARS: Unleashing the Power of Variance Reduction for
        Training Large Models", arXiv:2411.10438.

    Example:

    >>> kernel, bias = keras.Variable([[1.0, 1.0]]), keras.Variable([1.0, 1.0])
    >>> optimizer = kopt.MARS()
    >>> optimizer.build([kernel, bias])
    >>> list(optimizer.state(kernel))
    ['momentum', 'velocity', 'last_gradient']
    >>> list(optimizer.state(bias))
    ['momentum', 'velocity']
    """

    # A corrected gradient is clipped by the norm of all its rows.
    elementwise = False
    may_move = ("beta_1", "beta_1_1d")

    def __init__(
        self,
        learning_rate: Any = 0.003,
        beta_1: float = 0.95,
        beta_2: float = 0.99,
        gamma: float = 0.025,
        epsilon: float = 1e-8,
        optimize_1d: bool = False,
        beta_1_1d: float = 0.9,
        beta_2_1d: float = 0.95,
        name: str = "mars",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.gamma = _checks.number("gamma", gamma, low=0)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        self.optimize_1d = bool(optimize_1d)
        self.beta_1_1d = _checks.number(
            "beta_1_1d", beta_1_1d, low=0, high=1, high_open=True
        )
        self.beta_2_1d = _checks.number(
            "beta_2_1d", beta_2_1d, low=0, high=1, high_open=True
        )

    def traits(self, variable: Any) -> bool:
        """Whether the gradient is corrected."""
        return self.optimize_1d or len(variable.shape) > 1

    def slots(self, variable: Any) -> dict[str, float]:
        slots = {"momentum": 0.0, "velocity": 0.0}
        return {**slots, "last_gradient": 0.0} if self.traits(variable) else slots

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        beta_1 = self.present("beta_1", step)
        beta_1_1d = self.present("beta_1_1d", step)
        root = ops.sqrt(one_minus_power(self.beta_2, step.number))
        root_1d = ops.sqrt(one_minus_power(self.beta_2_1d, step.number))
        return {
            "correction": root / one_minus_power(beta_1, step.number),
            "epsilon": root * self.epsilon,
            "correction_1d": root_1d / one_minus_power(beta_1_1d, step.number),
            "epsilon_1d": root_1d * self.epsilon,
        }

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        if not step.traits:
            kind, name, beta_2 = "_1d", "beta_1_1d", self.beta_2_1d
            c, new = gradient, {}
        else:
            kind, name, beta_2 = "", "beta_1", self.beta_2
            c = self._corrected(gradient, state["last_gradient"], step)
            new = {"last_gradient": gradient}
        m, v = state["momentum"], state["velocity"]
        m = new["momentum"] = m + (1 - self.present(name, step)) * (c - m)
        v = new["velocity"] = v + (1 - beta_2) * (ops.square(c) - v)
        # The root of v is corrected in the factor before it, and in epsilon.
        root = ops.sqrt(v) + step.shared[f"epsilon{kind}"]
        return step.shared[f"correction{kind}"] * m / root, new

    def _corrected(self, gradient: Any, last: Any, step: Step) -> Any:
        beta_1 = self.present("beta_1", step)
        strength = self.gamma * beta_1 / (1 - beta_1)
        c = gradient + strength * (gradient - last)
        return c / ops.maximum(ops.sqrt(ops.sum(ops.square(c))), 1.0)
