"""NAdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import CommonOptions, Optimizer
from kopt.optimizers._descent import Step
from kopt.optimizers.adam import moments, one_minus_power


@register("optimizers")
class NAdamW(Optimizer):
    """Adam with Nesterov momentum and decoupled weight decay.

    A hard baseline to beat where Adam works: the present gradient counts more than in
    Adam. By default the momentum follows Dozat's schedule, as in `torch.optim.NAdam`.
    `keras.optimizers.Nadam` runs through the same schedule 250 times faster
    (`momentum_decay=1.0`); optax has none (`momentum_decay=None`). As in all three,
    `epsilon` is added to the corrected root.

        u_t = beta_1 (1 - 0.96^(t momentum_decay) / 2)         U_t = u_1 u_2 ... u_t
        m = beta_1 m + (1 - beta_1) g          v = beta_2 v + (1 - beta_2) g^2
        n = u_{t+1} m / (1 - U_{t+1}) + (1 - u_t) g / (1 - U_t)
        w = w - learning_rate (n / (sqrt(v / (1 - beta_2^t)) + epsilon)
                               + weight_decay w)

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        weight_decay: Decay as a share of the weights, times the learning rate.
            Defaults to `0.004`.
        beta_1: Decay of the first moment, and what the momentum rises to, in [0, 1).
            Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        epsilon: Added to the root of the second moment. Defaults to `1e-7`.
        momentum_decay: How fast the momentum rises from half of `beta_1`, from 0, or
            `None` for a constant momentum. Defaults to `0.004`.
        name: Name of the optimizer. Defaults to `"nadamw"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Dozat, 2016, "Incorporating Nesterov Momentum into Adam", ICLR workshop;
        Loshchilov & Hutter, 2017, "Decoupled Weight Decay Regularization",
        arXiv:1711.05101.

    Example:

    >>> for momentum_decay in (None, 0.004):
    ...     weight = keras.Variable([1.0])
    ...     optimizer = kopt.NAdamW(0.1, momentum_decay=momentum_decay)
    ...     for gradient in (1.0, -1.0):
    ...         optimizer.apply([keras.ops.full((1,), gradient)], [weight])
    ...     print(weight.numpy().round(3))  # with less momentum it turns back sooner
    [0.908]
    [0.963]
    """

    blockwise = True
    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        momentum_decay: float | None = 0.004,
        name: str = "nadamw",
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(learning_rate, name=name, weight_decay=weight_decay, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        if momentum_decay is not None:
            _checks.number("momentum_decay", momentum_decay, low=0)
        self.momentum_decay = momentum_decay

    def slots(self, variable: Any) -> dict[str, float]:
        return {"momentum": 0.0, "velocity": 0.0}

    def shared_slots(self) -> dict[str, float]:
        return {"momentum_product": 1.0}

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        beta_1 = self.present("beta_1", step)
        present, following = (
            self._momentum(step.number, beta_1),
            self._momentum(step.number + 1, beta_1),
        )
        product = step.shared["momentum_product"] * present
        return {
            "momentum_product": product,
            "momentum_share": following / (1 - product * following),
            "gradient_share": (1 - present) / (1 - product),
            "correction": ops.rsqrt(one_minus_power(self.beta_2, step.number)),
        }

    def _momentum(self, number: Any, beta_1: Any) -> Any:
        """Dozat's schedule, from half of `beta_1` towards the whole."""
        if self.momentum_decay is None:
            return beta_1
        return beta_1 * (1 - 0.5 * ops.power(0.96, number * self.momentum_decay))

    def next_state(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> dict[str, Any]:
        return moments(gradient, state, self.present("beta_1", step), self.beta_2)

    def direction(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> Any:
        m, v, shared = state["momentum"], state["velocity"], step.shared
        ahead = shared["momentum_share"] * m + shared["gradient_share"] * gradient
        return ahead / (shared["correction"] * ops.sqrt(v) + self.epsilon)
