"""Lion."""

from __future__ import annotations

from typing import Any, Unpack

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step


@register("optimizers")
class Lion(Optimizer):
    """Lion: every weight moves by the learning rate, up or down.

    Needs one slot where Adam needs two. Take a learning rate 3 to 10 times smaller
    than Adam's and a weight decay as much larger; it likes large batches. Formula,
    arguments and defaults are those of `keras.optimizers.Lion`.

        w = w - learning_rate sign(beta_1 m + (1 - beta_1) g)
        m = beta_2 m + (1 - beta_2) g

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`; the paper uses `1e-4` and less.
        beta_1: Share of the momentum in the direction, in (0, 1). Defaults to `0.9`.
        beta_2: Decay of the momentum, in [0, 1). Defaults to `0.99`.
        name: Name of the optimizer. Defaults to `"lion"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Chen et al., 2023, "Symbolic Discovery of Optimization Algorithms",
        arXiv:2302.06675.

    Example:

    >>> weight = keras.Variable([1.0, 1.0, 1.0])
    >>> optimizer = kopt.Lion(learning_rate=0.1)
    >>> optimizer.apply([keras.ops.convert_to_tensor([9.0, -0.1, 0.0])], [weight])
    >>> print(weight.numpy().round(4))
    [0.9 1.1 1. ]
    """

    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        name: str = "lion",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number(
            "beta_1",
            beta_1,
            low=0,
            high=1,
            low_open=True,
            high_open=True,
            hint="At 0 or 1, Lion would lose its momentum or its gradient.",
        )
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.blockwise = bool(beta_2)

    def slots(self, variable: Any) -> dict[str, float]:
        return {"momentum": 0.0}

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        if self.beta_2:
            return super().update(gradient, variable, state, step)
        # The next momentum is the gradient, and says nothing of the last one.
        beta_1 = self.present("beta_1", step)
        mixed = beta_1 * state["momentum"] + (1 - beta_1) * gradient
        return ops.sign(mixed), self.next_state(gradient, variable, state, step)

    def next_state(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> dict[str, Any]:
        m = state["momentum"]
        return {"momentum": m + (1 - self.beta_2) * (gradient - m)}

    def direction(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> Any:
        # In terms of the new momentum, the old one is (new - (1 - beta_2) g) / beta_2.
        # A sign needs no common factor: new counts once.
        beta_1 = self.present("beta_1", step)
        share = beta_1 / self.beta_2
        if not isinstance(beta_1, float):
            # It may have moved to 0, which nothing can be divided by.
            rest = 1 - beta_1 - share * (1 - self.beta_2)
            return ops.sign(share * state["momentum"] + rest * gradient)
        rest = (1 - beta_1) / share - (1 - self.beta_2)
        return ops.sign(state["momentum"] + rest * gradient)
