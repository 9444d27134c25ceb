"""Adam."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import numpy as np
import tensorflow as tf
from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step


@register("optimizers")
class Adam(Optimizer):
    """Adam: each weight's step is scaled by running moments of its own gradient.

    A good first choice. The same formula, arguments and defaults as
    `keras.optimizers.Adam`, with `epsilon` outside the bias correction ("epsilon hat"
    in the paper); optax and torch add theirs to the corrected root. Unlike Keras's it
    is right on gradients with repeated rows (embeddings) and on bfloat16 variables.

    With m and v the moments and t the number of the update:

        m = beta_1 m + (1 - beta_1) g        v = beta_2 v + (1 - beta_2) g^2
        c = sqrt(1 - beta_2^t) / (1 - beta_1^t)
        w = w - learning_rate c m / (sqrt(v) + epsilon)

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        beta_1: Decay of the first moment, in [0, 1). A callback can move it while
            training; the bias correction takes the power of its present value, as in
            torch. Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        epsilon: Added to the root of the second moment. Defaults to `1e-7`.
        amsgrad: Divide by the largest second moment so far (Reddi et al., 2018,
            "On the Convergence of Adam and Beyond", arXiv:1904.09237). Defaults to
            `False`.
        name: Name of the optimizer. Defaults to `"adam"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Kingma & Ba, 2014, "Adam: A Method for Stochastic Optimization",
        arXiv:1412.6980.

    Example:

    >>> weight = keras.Variable([1.0, -1.0])
    >>> optimizer = kopt.Adam(learning_rate=0.1)
    >>> optimizer.apply([keras.ops.convert_to_tensor([100.0, -0.01])], [weight])
    >>> print(weight.numpy().round(4))  # the first step has the same length for all
    [ 0.9 -0.9]
    """

    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        name: str = "adam",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        self.amsgrad = bool(amsgrad)
        self.blockwise = not self.amsgrad

    def slots(self, variable: Any) -> dict[str, float]:
        slots = {"momentum": 0.0, "velocity": 0.0}
        return {**slots, "velocity_max": 0.0} if self.amsgrad else slots

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        correction_1 = one_minus_power(self.present("beta_1", step), step.number)
        correction_2 = one_minus_power(self.beta_2, step.number)
        return {"correction": ops.sqrt(correction_2) / correction_1}

    def next_state(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> dict[str, Any]:
        beta_1 = self.present("beta_1", step)
        new = moments(gradient, state, beta_1, self.beta_2)
        if self.amsgrad:
            largest = ops.maximum(state["velocity_max"], new["velocity"])
            new["velocity_max"] = largest
        return new

    def direction(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> Any:
        v = state["velocity_max" if self.amsgrad else "velocity"]
        m = step.shared["correction"] * state["momentum"]
        return m / (ops.sqrt(v) + self.epsilon)

    def kernel(self) -> Callable[..., None] | None:
        return None if self.amsgrad else self._apply_adam

    def _apply_adam(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> None:
        # The kernel forms 1 - beta in the dtype of the variable. For beta_2 = 0.999 in
        # float32 that is 1.3e-5 too small, and so are its moments. The step is put
        # right here, so that the weights are exact.
        kind = gradient.dtype.as_numpy_dtype
        beta_1, share_1 = self.present("beta_1", step), 1.0
        if isinstance(beta_1, float):
            share_1 = float(1 - kind(beta_1)) / (1 - beta_1)
            beta_1 = kind(beta_1)
        share_2 = math.sqrt(float(1 - kind(self.beta_2)) / (1 - self.beta_2))
        rate = step.learning_rate * step.shared["correction"] * (share_2 / share_1)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=state["momentum"].handle,
            v=state["velocity"].handle,
            beta1_power=np.zeros((), kind),
            beta2_power=np.zeros((), kind),
            lr=rate,
            beta1=beta_1,
            beta2=kind(self.beta_2),
            epsilon=kind(self.epsilon * share_2),
            grad=gradient,
        )


def moments(
    gradient: Any, state: dict[str, Any], beta_1: Any, beta_2: float
) -> dict[str, Any]:
    """The next running means of a gradient and of its square."""
    m, v = state["momentum"], state["velocity"]
    return {
        "momentum": m + (1 - beta_1) * (gradient - m),
        "velocity": v + (1 - beta_2) * (ops.square(gradient) - v),
    }


def one_minus_power(base: Any, exponent: Any) -> Any:
    """`1 - base ** exponent` in float64, without cancellation for a base near 1.

    Args:
        base: A number, or a scalar tensor where something moves it.
        exponent: A scalar tensor.
    """
    if isinstance(base, float) and base == 0:
        return ops.ones_like(exponent)
    return -ops.expm1(exponent * log(base))


def log(base: Any) -> Any:
    """The natural logarithm of a number or a tensor from 0: of 0, minus infinity."""
    if not isinstance(base, float):
        return ops.log(base)
    return math.log(base) if base else -math.inf
