"""Adagrad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import tensorflow as tf
from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step


@register("optimizers")
class Adagrad(Optimizer):
    """Adagrad: gradients divided by the root of all their squares so far.

    Rare features keep a high rate while common ones settle, so it suits sparse data
    and convex problems. Formula, arguments and defaults are those of
    `keras.optimizers.Adagrad`, with `epsilon` under the root (the paper and torch add
    it to the root). It is counted into the accumulator once, at the start, rather than
    added at each update; the sum is the same.

        a = initial_accumulator_value + epsilon                     (at the start)
        a = a + g^2                     w = w - learning_rate g / sqrt(a)

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`; Adagrad likes higher ones, the paper's form is `1.0`.
        initial_accumulator_value: What the sum of squares starts from, from 0. The
            higher, the shorter the first steps. Defaults to `0.1`.
        epsilon: Added to the sum of squares. Defaults to `1e-7`.
        name: Name of the optimizer. Defaults to `"adagrad"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Duchi et al., 2011, "Adaptive Subgradient Methods for Online Learning and
        Stochastic Optimization", Journal of Machine Learning Research 12.

    Example:

    >>> weight = keras.Variable([0.0, 0.0])
    >>> optimizer = kopt.Adagrad(learning_rate=1.0, initial_accumulator_value=0.0)
    >>> for gradient in ([1.0, 0.0], [1.0, 0.0], [1.0, 1.0]):
    ...     optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    ...     print((0 - weight.numpy()).round(2))  # the rare gradient has the full rate
    [1. 0.]
    [1.71 0.  ]
    [2.28 1.  ]
    """

    kernel_from = 0

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        name: str = "adagrad",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.initial_accumulator_value = _checks.number(
            "initial_accumulator_value", initial_accumulator_value, low=0
        )
        self.epsilon = _checks.number(
            "epsilon",
            epsilon,
            low=0,
            low_open=not initial_accumulator_value,
            hint="A weight without a gradient would be divided by zero.",
        )

    def slots(self, variable: Any) -> dict[str, float]:
        return {"accumulator": self.initial_accumulator_value + self.epsilon}

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        accumulator = state["accumulator"] + ops.square(gradient)
        return gradient / ops.sqrt(accumulator), {"accumulator": accumulator}

    def kernel(self) -> Callable[..., None]:
        return self._apply_adagrad

    def _apply_adagrad(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> None:
        # Its own epsilon stands outside the root: ours is in the accumulator.
        tf.raw_ops.ResourceApplyAdagradV2(
            var=variable.handle,
            accum=state["accumulator"].handle,
            lr=step.learning_rate,
            epsilon=gradient.dtype.as_numpy_dtype(0),
            grad=gradient,
        )
