"""Gradient descent, with momentum where asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import tensorflow as tf

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step


@register("optimizers")
class SGD(Optimizer):
    """Stochastic gradient descent, with classical or Nesterov momentum.

    With a tuned learning rate and schedule it often generalizes best on images, and it
    needs the least memory. Formula, arguments and defaults are those of
    `keras.optimizers.SGD`: the learning rate stands inside the momentum, so past steps
    keep the rate that they were taken with (torch and optax put it outside; under a
    constant rate both are the same).

        v = momentum v - learning_rate g
        w = w + v                                     (classical)
        w = w + momentum v - learning_rate g          (Nesterov)

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.01`.
        momentum: Share of the last step that goes on, in [0, 1]. A callback can move
            it while training, unless it starts at 0. Defaults to `0.0`.
        nesterov: Use Nesterov momentum. Defaults to `False`.
        name: Name of the optimizer. Defaults to `"SGD"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Polyak, 1964, "Some methods of speeding up the convergence of iteration
        methods"; Sutskever et al., 2013, "On the importance of initialization and
        momentum in deep learning".

    Example:

    >>> weight = keras.Variable([1.0])
    >>> optimizer = kopt.SGD(learning_rate=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     optimizer.apply([keras.ops.ones(1)], [weight])
    >>> print(weight.numpy().round(4))  # 1 - 0.1 - (0.1 + 0.9 * 0.1)
    [0.71]
    """

    scales_itself = True
    cheap = True
    kernel_from = 0
    kernel_passes = 2

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        name: str = "SGD",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.momentum = _checks.number("momentum", momentum, low=0, high=1)
        self.nesterov = bool(nesterov)
        self.movable = ("momentum",) if momentum else ()
        self.blockwise = bool(momentum)

    def slots(self, variable: Any) -> dict[str, float]:
        return {"momentum": 0.0} if self.movable else {}

    def next_state(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> dict[str, Any]:
        if not self.movable:
            return {}
        kept = step.shared["momentum"] * state["momentum"]
        return {"momentum": kept - step.learning_rate * gradient}

    def direction(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> Any:
        if not self.movable:
            return step.learning_rate * gradient
        if not self.nesterov:
            return -state["momentum"]
        ahead = step.shared["momentum"] * state["momentum"]
        return step.learning_rate * gradient - ahead

    def proximal_rate(self, step: Step) -> Any:
        if not self.movable:
            return step.learning_rate
        # Each gradient comes back so often that it moves a weight this far in the end.
        return step.learning_rate / tf.maximum(1 - step.shared["momentum"], 1e-6)

    def kernel(self) -> Callable[..., None]:
        return self._apply_momentum if self.movable else self._apply_descent

    def _apply_descent(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> None:
        tf.raw_ops.ResourceApplyGradientDescent(
            var=variable.handle, alpha=step.learning_rate, delta=gradient
        )

    def _apply_momentum(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> None:
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=state["momentum"].handle,
            lr=step.learning_rate,
            grad=gradient,
            momentum=step.shared["momentum"],
            use_nesterov=self.nesterov,
        )
