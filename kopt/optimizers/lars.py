"""LARS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from kopt import _checks
from kopt._registry import register
from kopt.optimizers import _trust
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step


@register("optimizers")
class LARS(Optimizer):
    """LARS: gradient descent with momentum, as fast as each layer's weights allow.

    For convolutional networks on batches of thousands. Each variable has a local rate
    that makes its step a fixed share of its own length. The learning rate is larger
    than in plain descent, about 1 to 30 with a warm-up. As in the paper, and in
    `kopt.SGD`, learning rates stand inside the momentum, and weight decay is part of
    the gradient.

        rate = trust_coefficient |w| / (|g| + weight_decay |w|)
        v = momentum v + learning_rate rate (g + weight_decay w)
        w = w - v

    A variable that is zero, or that has neither gradient nor decay, has a rate of 1.

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `1.0`.
        momentum: Share of the last step that goes on, in [0, 1]. A callback can move
            it while training, unless it is 0. Defaults to `0.9`.
        trust_coefficient: Share of a variable's length that it may move at a learning
            rate of 1. Defaults to `0.001`.
        nesterov: Use Nesterov momentum. Defaults to `False`.
        excluded_from_adaptation: Regular expressions searched for in variable paths;
            what they find has a rate of 1. Common is `["bias", "gamma", "beta"]`.
            Defaults to `None`.
        name: Name of the optimizer. Defaults to `"lars"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        TypeError: If `excluded_from_adaptation` is not a list of strings.
        ValueError: For a number outside its range or a broken regular expression.

    References:
        You, Gitman & Ginsburg, 2017, "Large Batch Training of Convolutional Networks",
        arXiv:1708.03888.

    Example:

    >>> weight = keras.Variable([3.0, 4.0])
    >>> optimizer = kopt.LARS(learning_rate=1.0, trust_coefficient=0.1)
    >>> optimizer.apply([keras.ops.convert_to_tensor([100.0, 0.0])], [weight])
    >>> print(weight.numpy().round(4))  # a tenth of the weights' length, 5
    [2.5 4. ]
    """

    # A layer's length is that of all its weights.
    elementwise = False
    # XLA sums on one core, and the sums are most of the work.
    fuses = False
    scales_itself = True
    decays_itself = True

    def __init__(
        self,
        learning_rate: Any = 1.0,
        momentum: float = 0.9,
        trust_coefficient: float = 0.001,
        nesterov: bool = False,
        excluded_from_adaptation: Sequence[str] | None = None,
        name: str = "lars",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.momentum = _checks.number("momentum", momentum, low=0, high=1)
        self.trust_coefficient = _checks.number(
            "trust_coefficient", trust_coefficient, low=0, low_open=True
        )
        self.nesterov = bool(nesterov)
        self.excluded_from_adaptation = _trust.checked_patterns(
            "excluded_from_adaptation", excluded_from_adaptation
        )
        self.movable = ("momentum",) if momentum else ()

    def slots(self, variable: Any) -> dict[str, float]:
        return {"momentum": 0.0} if self.movable else {}

    def traits(self, variable: Any) -> bool:
        """Whether the variable has a rate of its own."""
        return not _trust.matches(self.excluded_from_adaptation, variable)

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        decay = step.weight_decay
        rate = step.learning_rate
        if step.traits:
            length, slope = _trust.length(variable), _trust.length(gradient)
            if decay is not None:
                slope = slope + decay * length
            rate = rate * _trust.ratio(self.trust_coefficient * length, slope)
        descent = rate * (gradient if decay is None else gradient + decay * variable)
        if "momentum" not in state:
            return descent, {}
        momentum = step.shared["momentum"]
        v = momentum * state["momentum"] + descent
        return (descent + momentum * v if self.nesterov else v), {"momentum": v}
