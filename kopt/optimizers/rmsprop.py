"""RMSprop."""

from __future__ import annotations

from typing import Any, Unpack

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step


@register("optimizers")
class RMSprop(Optimizer):
    """RMSprop: gradients divided by the root of their running mean square.

    Common for recurrent networks and reinforcement learning. Formula, arguments and
    defaults are those of `keras.optimizers.RMSprop`: `epsilon` stands under the root,
    and the learning rate stands inside the momentum.

        v = rho v + (1 - rho) g^2            a = rho a + (1 - rho) g      (centered)
        s = learning_rate g / sqrt(v - a^2 + epsilon)    (a = 0 where not centered)
        b = momentum b + s                   w = w - b

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        rho: Decay of the mean square, in [0, 1). Defaults to `0.9`.
        momentum: Share of the last step that goes on, in [0, 1]. A callback can move
            it while training, unless it starts at 0. Defaults to `0.0`.
        epsilon: Added to the mean square. Defaults to `1e-7`.
        centered: Divide by the running standard deviation instead. Defaults to
            `False`.
        name: Name of the optimizer. Defaults to `"rmsprop"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Hinton, 2012, "Neural Networks for Machine Learning", lecture 6e; the centered
        form: Graves, 2013, "Generating Sequences With Recurrent Neural Networks",
        arXiv:1308.0850.

    Example:

    >>> weight = keras.Variable([1.0, 1.0])
    >>> optimizer = kopt.RMSprop(learning_rate=0.1, rho=0.0)
    >>> optimizer.apply([keras.ops.convert_to_tensor([5.0, -0.5])], [weight])
    >>> print(weight.numpy().round(4))  # without memory, only the sign is left
    [0.9 1.1]
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        name: str = "rmsprop",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.rho = _checks.number("rho", rho, low=0, high=1, high_open=True)
        self.momentum = _checks.number("momentum", momentum, low=0, high=1)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        self.centered = bool(centered)
        self.movable = ("momentum",) if momentum else ()
        # The momentum is one of steps, not of directions.
        self.scales_itself = bool(momentum)
        self.blockwise = not momentum

    def slots(self, variable: Any) -> dict[str, float]:
        slots = {"velocity": 0.0}
        if self.movable:
            slots["momentum"] = 0.0
        if self.centered:
            slots["average_gradient"] = 0.0
        return slots

    def next_state(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> dict[str, Any]:
        v = state["velocity"]
        new = {"velocity": v + (1 - self.rho) * (ops.square(gradient) - v)}
        if self.centered:
            a = state["average_gradient"]
            new["average_gradient"] = a + (1 - self.rho) * (gradient - a)
        if self.movable:
            moved = step.learning_rate * self._normalized(gradient, new)
            new["momentum"] = step.shared["momentum"] * state["momentum"] + moved
        return new

    def direction(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> Any:
        if self.movable:
            return state["momentum"]
        return self._normalized(gradient, state)

    def _normalized(self, gradient: Any, state: dict[str, Any]) -> Any:
        v = state["velocity"]
        if self.centered:
            v = v - ops.square(state["average_gradient"])
        return gradient * ops.rsqrt(v + self.epsilon)
