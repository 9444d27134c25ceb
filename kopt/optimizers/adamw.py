"""AdamW."""

from __future__ import annotations

from typing import Any, Unpack

from kopt._registry import register
from kopt.optimizers._base import CommonOptions
from kopt.optimizers.adam import Adam


@register("optimizers")
class AdamW(Adam):
    """Adam with decoupled weight decay.

    Use it where a model overfits or is trained for long. At each update every weight
    first loses `learning_rate * weight_decay` of itself, outside the moments, so that
    decay acts on all weights alike. Arguments and defaults are those of
    `keras.optimizers.AdamW`. Biases and normalization scales are commonly left out:
    `excluded_from_weight_decay=["bias", "gamma", "beta"]`.

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        weight_decay: Decay as a share of the weights, times the learning rate.
            Defaults to `0.004`.
        beta_1: Decay of the first moment, in [0, 1). Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        epsilon: Added to the root of the second moment. Defaults to `1e-7`.
        amsgrad: Divide by the largest second moment so far. Defaults to `False`.
        name: Name of the optimizer. Defaults to `"adamw"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Loshchilov & Hutter, 2017, "Decoupled Weight Decay Regularization",
        arXiv:1711.05101.

    Example:

    >>> weight = keras.Variable([1.0, -2.0])
    >>> optimizer = kopt.AdamW(learning_rate=0.1, weight_decay=0.5)
    >>> optimizer.apply([keras.ops.zeros(2)], [weight])
    >>> print(weight.numpy().round(4))  # without a gradient, decay alone
    [ 0.95 -1.9 ]
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        name: str = "adamw",
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
            name,
            weight_decay=weight_decay,
            **options,
        )
