"""AdaBelief."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import Optimizer, Options
from kopt.optimizers._descent import Step
from kopt.optimizers.adam import one_minus_power
from kopt.optimizers.radam import rectification

# Above which length of the moving average the authors' code rectifies.
_THRESHOLD = 5.0


@register("optimizers")
class AdaBelief(Optimizer):
    """AdaBelief: long steps where gradients come as their momentum foretold.

    Adam divides by the size of gradients, AdaBelief by how far they stray from their
    mean: along a steady slope it goes faster, over noise slower. As in the paper and
    its authors' code, `epsilon` is added twice: into the moment at each update, where
    it accumulates, and to the corrected root.

        m = beta_1 m + (1 - beta_1) g
        s = beta_2 s + (1 - beta_2) (g - m)^2 + epsilon
        w = w - learning_rate m / (1 - beta_1^t)
                / (sqrt(s / (1 - beta_2^t)) + epsilon)

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        beta_1: Decay of the first moment, in [0, 1). Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        epsilon: Added to the second moment and to its root. For images the authors
            take `1e-8`, otherwise the default, `1e-16`.
        rectify: Warm up as `RAdam` does, in the form of the authors' code, where
            `epsilon` is added to the root before its correction. Defaults to `False`,
            the paper's form; in their later code it is on.
        name: Name of the optimizer. Defaults to `"adabelief"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Zhuang et al., 2020, "AdaBelief Optimizer: Adapting Stepsizes by the Belief in
        Observed Gradients", arXiv:2010.07468; rectification: Liu et al., 2019,
        arXiv:1908.03265.

    Example:

    >>> weight = keras.Variable([0.0, 0.0])
    >>> optimizer = kopt.AdaBelief(learning_rate=0.01)
    >>> for sign in (1, -1) * 10:
    ...     gradient = keras.ops.convert_to_tensor([1.0, 1.0 + sign])
    ...     optimizer.apply([gradient], [weight])
    >>> print(weight.numpy().round(2))  # the mean of both gradients is 1
    [-0.33 -0.18]
    """

    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-16,
        rectify: bool = False,
        name: str = "adabelief",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        self.rectify = bool(rectify)

    def slots(self, variable: Any) -> dict[str, float]:
        return {"momentum": 0.0, "velocity": 0.0}

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        beta_1 = self.present("beta_1", step)
        if self.rectify:
            return rectification(beta_1, self.beta_2, _THRESHOLD, step.number)
        return {
            "factor": 1 / one_minus_power(beta_1, step.number),
            "correction": ops.rsqrt(one_minus_power(self.beta_2, step.number)),
        }

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        m, s, shared = state["momentum"], state["velocity"], step.shared
        m = m + (1 - self.present("beta_1", step)) * (gradient - m)
        # One sum of three takes XLA about twice as long as this.
        change = (1 - self.beta_2) * (ops.square(gradient - m) - s) + self.epsilon
        s = s + change
        if self.rectify:
            size = ops.where(shared["adapts"] > 0, ops.sqrt(s) + self.epsilon, 1.0)
        else:
            size = shared["correction"] * ops.sqrt(s) + self.epsilon
        return shared["factor"] * m / size, {"momentum": m, "velocity": s}
