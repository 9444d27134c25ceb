"""NovoGrad."""

from __future__ import annotations

from typing import Any, Unpack

import keras
from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step
from kopt.optimizers._plan import Slot


@register("optimizers")
class NovoGrad(Optimizer):
    """NovoGrad: momentum over gradients that were divided by their variable's norm.

    Made for speech models and large batches; with one second moment a variable it
    needs half of Adam's memory, and no warm-up. Weight decay goes through the
    momentum, as in the paper, and `epsilon` is added to the root.

        v = beta_2 v + (1 - beta_2) |g|^2          (v = |g|^2 for the first gradient)
        m = beta_1 m + g / (sqrt(v) + epsilon) + weight_decay w
        w = w - learning_rate m

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        beta_1: Decay of the momentum, in [0, 1). Defaults to `0.95`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.98`.
        epsilon: Added to the root of the second moment. Defaults to `1e-8`.
        gradient_averaging: Multiply what enters the momentum by `1 - beta_1`, so that
            steps are shorter, about as long as the gradients'. Defaults to `False`.
        name: Name of the optimizer. Defaults to `"novograd"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Ginsburg et al., 2019, "Training Deep Networks with Stochastic Gradient
        Normalized by Layerwise Adaptive Second Moments", arXiv:1905.11286.

    Example:

    >>> weights = [keras.Variable([0.0, 0.0]), keras.Variable([0.0, 0.0])]
    >>> optimizer = kopt.NovoGrad(learning_rate=1.0)
    >>> gradients = [keras.ops.convert_to_tensor(g) for g in ([3.0, 4.0], [0.3, 0.4])]
    >>> optimizer.apply(gradients, weights)
    >>> for weight in weights:  # both first steps have length 1
    ...     print(weight.numpy().round(4))
    [-0.6 -0.8]
    [-0.6 -0.8]
    """

    elementwise = False
    decays_itself = True
    # The sum takes XLA longer than one pass over memory saves.
    fuses = False
    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.95,
        beta_2: float = 0.98,
        epsilon: float = 1e-8,
        gradient_averaging: bool = False,
        name: str = "novograd",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.epsilon = _checks.number(
            "epsilon",
            epsilon,
            low=0,
            low_open=True,
            hint="A variable without a gradient would be divided by zero.",
        )
        self.gradient_averaging = bool(gradient_averaging)

    def slots(self, variable: keras.Variable) -> dict[str, float | Slot]:
        return {"momentum": 0.0, "velocity": Slot(())}

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        beta_1 = self.present("beta_1", step)
        m, v = state["momentum"], state["velocity"]
        square = ops.sum(ops.square(gradient))
        v = ops.where(v > 0, v + (1 - self.beta_2) * (square - v), square)
        normalized = gradient / (ops.sqrt(v) + self.epsilon)
        if step.weight_decay is not None:
            normalized = normalized + step.weight_decay * variable
        if self.gradient_averaging:
            normalized = (1 - beta_1) * normalized
        m = beta_1 * m + normalized
        return m, {"momentum": m, "velocity": v}
