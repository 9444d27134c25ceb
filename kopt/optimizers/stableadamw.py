"""StableAdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import CommonOptions, Optimizer
from kopt.optimizers._descent import Step
from kopt.optimizers.adam import one_minus_power


@register("optimizers")
class StableAdamW(Optimizer):
    """AdamW that shortens the steps of a variable whose gradients suddenly grow.

    Use it in place of gradient clipping where the loss spikes. Spikes follow when the
    second moment lags behind the gradients; Adafactor's update clipping measures that
    for each variable and lowers its learning rate, and its decay, for one update. The
    moments are kept with their bias corrected, so `epsilon` is added to the corrected
    root.

        b_i = beta_i (1 - beta_i^(t-1)) / (1 - beta_i^t)
        m = b_1 m + (1 - b_1) g                v = b_2 v + (1 - b_2) g^2
        r = learning_rate / max(1, RMS(g / sqrt(max(v, epsilon^2))) / clip_threshold)
        w = w - r (m / (sqrt(v) + epsilon) + weight_decay w)

    Args:
        learning_rate: A number, a schedule or a function without arguments. Defaults
            to `0.001`.
        weight_decay: Decay as a share of the weights, times the learning rate.
            Defaults to `0.01`.
        beta_1: Decay of the first moment, in [0, 1). Defaults to `0.9`.
        beta_2: Decay of the second moment, in [0, 1); lower it if the loss still
            spikes. Defaults to `0.99`.
        epsilon: Added to the root of the second moment, above 0. Defaults to `1e-8`.
        clip_threshold: From which root mean square on steps are shortened. Defaults to
            `1.0`.
        name: Name of the optimizer. Defaults to `"stable_adamw"`.
        **options: The options of every kopt optimizer, see `kopt.optimizers.Optimizer`.

    Raises:
        ValueError: For a number outside its range.

    References:
        Wortsman et al., 2023, "Stable and low-precision training for large-scale
        vision-language models", arXiv:2304.13013; update clipping: Shazeer & Stern,
        2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
        arXiv:1804.04235.

    Example:

    >>> for method in (kopt.AdamW, kopt.StableAdamW):
    ...     weight = keras.Variable([0.0])
    ...     optimizer = method(1.0, weight_decay=None, beta_2=0.99)
    ...     for gradient in [0.01] * 50 + [100.0]:
    ...         before = weight.numpy()
    ...         optimizer.apply([keras.ops.full((1,), gradient)], [weight])
    ...     print((before - weight.numpy()).round(2))  # the step at the spike
    [0.64]
    [0.1]
    """

    elementwise = False
    decays_itself = True
    may_move = ("beta_1",)

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        epsilon: float = 1e-8,
        clip_threshold: float = 1.0,
        name: str = "stable_adamw",
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(learning_rate, name=name, weight_decay=weight_decay, **options)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.epsilon = _checks.number("epsilon", epsilon, low=0, low_open=True)
        self.clip_threshold = _checks.number(
            "clip_threshold", clip_threshold, low=0, low_open=True
        )

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
        # 1 - b_i, what a gradient counts in a mean whose bias is corrected.
        return {
            "share_1": (1 - beta_1) / one_minus_power(beta_1, step.number),
            "share_2": (1 - self.beta_2) / one_minus_power(self.beta_2, step.number),
        }

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        m, v, square = state["momentum"], state["velocity"], ops.square(gradient)
        m = m + step.shared["share_1"] * (gradient - m)
        v = v + step.shared["share_2"] * (square - v)
        ratio = ops.sqrt(ops.mean(square / ops.maximum(v, self.epsilon**2)))
        direction = m / (ops.sqrt(v) + self.epsilon)
        if step.weight_decay is not None:
            direction = direction + step.weight_decay * variable
        shortened = direction / ops.maximum(ratio / self.clip_threshold, 1.0)
        return shortened, {"momentum": m, "velocity": v}
