"""LAMB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers import _trust
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step
from kopt.optimizers.adam import moments, one_minus_power


@register("optimizers")
class LAMB(Optimizer):
    """LAMB: Adam's direction, as long as each layer's weights allow.

    For large batches and large learning rates. A variable's step has the length of the
    variable times the learning rate, whatever its gradients are. Arguments and defaults
    are those of `keras.optimizers.Lamb`. Unlike there, weight decay is part of the
    direction whose length is adapted, as in the paper; without decay both are the same.

        m = beta_1 m + (1 - beta_1) g        v = beta_2 v + (1 - beta_2) g^2
        r = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)
        u = r + weight_decay w
        w = w - learning_rate (|w| / |u|) u          (|w| / |u| = 1 where one is 0)

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        beta_1: Decay of the first moment, in [0, 1). Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        epsilon: Added to the corrected root of the second moment. Defaults to `1e-7`;
            the paper's code uses `1e-6`.
        excluded_from_adaptation: Regular expressions searched for in variable paths;
            what they find takes plain Adam steps, with decay in the direction. Common
            is `["bias", "gamma", "beta"]`. Defaults to `None`.
        name: Name of the optimizer. Defaults to `"lamb"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        TypeError: If `excluded_from_adaptation` is not a list of strings.
        ValueError: For a number outside its range or a broken regular expression.

    References:
        You et al., 2019, "Large Batch Optimization for Deep Learning: Training BERT in
        76 minutes", arXiv:1904.00962.

    Example:

    >>> weight = keras.Variable([3.0, 4.0])
    >>> optimizer = kopt.LAMB(learning_rate=0.1)
    >>> optimizer.apply([keras.ops.convert_to_tensor([100.0, 0.0])], [weight])
    >>> print(weight.numpy().round(4))  # a tenth of the weights' length, 5
    [2.5 4. ]
    """

    # A layer's length is that of all its weights.
    elementwise = False
    decays_itself = True
    rescales = True
    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        excluded_from_adaptation: Sequence[str] | None = None,
        name: str = "lamb",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        self.excluded_from_adaptation = _trust.checked_patterns(
            "excluded_from_adaptation", excluded_from_adaptation
        )

    def slots(self, variable: Any) -> dict[str, float]:
        return {"momentum": 0.0, "velocity": 0.0}

    def traits(self, variable: Any) -> bool:
        """Whether the length of the step is adapted."""
        return not _trust.matches(self.excluded_from_adaptation, variable)

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        beta_1 = self.present("beta_1", step)
        root = ops.sqrt(one_minus_power(self.beta_2, step.number))
        return {
            "correction": root / one_minus_power(beta_1, step.number),
            "epsilon": root * self.epsilon,
        }

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        beta_1 = self.present("beta_1", step)
        new = moments(gradient, state, beta_1, self.beta_2)
        # Both corrections in one factor; epsilon takes the one that v would have.
        size = ops.sqrt(new["velocity"]) + step.shared["epsilon"]
        u = step.shared["correction"] * new["momentum"] / size
        if step.weight_decay is not None:
            u = u + step.weight_decay * variable
        return u, new

    def factor(self, direction: Any, variable: Any, step: Step) -> Any:
        if not step.traits:
            return 1.0
        return _trust.ratio(_trust.length(variable), _trust.length(direction))
