"""Schedule-Free AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import keras
from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.optimizers._base import CommonOptions, Optimizer
from kopt.optimizers._descent import Step
from kopt.optimizers._preset import Preset, with_warmup
from kopt.optimizers.adam import one_minus_power


@keras.saving.register_keras_serializable(package="kopt")
class AdamWithoutMomentum(Optimizer):
    """Adam's second moment alone: z's optimizer in `ScheduleFreeAdamW`.

    `epsilon` is added to the corrected root, as the authors of Schedule-Free do.
    """

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        name: str = "adam_without_momentum",
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(learning_rate, name=name, **options)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0, high=1, high_open=True)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)

    def slots(self, variable: Any) -> dict[str, float]:
        return {"velocity": 0.0}

    def once_per_step(
        self,
        step: Step,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        states: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        return {"correction": 1 / ops.sqrt(one_minus_power(self.beta_2, step.number))}

    def update(
        self, gradient: Any, variable: Any, state: dict[str, Any], step: Step
    ) -> tuple[Any, dict[str, Any]]:
        v = state["velocity"]
        v = v + (1 - self.beta_2) * (ops.square(gradient) - v)
        root = step.shared["correction"] * ops.sqrt(v)
        return gradient / (root + self.epsilon), {"velocity": v}


@register("optimizers")
class ScheduleFreeAdamW(Preset):
    """AdamW without a schedule: Schedule-Free around Adam's second moment.

    A first choice where the length of a run is open. Take a learning rate some times
    higher than AdamW's, hold it constant after a warm-up, and evaluate at the average:
    `fit` leaves the model there, and `kopt.callbacks.EvalWeights` validates there. See
    `ScheduleFree` for the method; formula and defaults are those of the authors'
    `AdamWScheduleFree`, with `epsilon` added to the corrected root. (That of Keras
    reads a variable after it was assigned, so its steps differ, and it never evaluates
    at the average.)

    Args:
        learning_rate: The constant rate, or a schedule that does not decay. Defaults
            to `0.0025`.
        weight_decay: Decay by the weights y, times the learning rate. Defaults to
            `None`.
        beta_1: Share of the average in the training point, in [0, 1). Defaults to
            `0.9`.
        beta_2: Decay of the second moment, in [0, 1). Defaults to `0.999`.
        epsilon: Added to the root of the corrected second moment. Defaults to `1e-8`.
        warmup_steps: Steps in which the rate rises to `learning_rate`. Defaults to `0`.
        r: Power of the step in the average's weights. Defaults to `0.0`.
        weight_lr_power: Power of the highest learning rate in them. Defaults to `2.0`.
        name: Name of the optimizer. Defaults to `"schedule_free_adamw"`.
        **options: The options of every kopt optimizer but `use_ema`, see
            `kopt.optimizers.Optimizer`.

    Raises:
        TypeError: For a warm-up of what is not a number.
        ValueError: For a number outside its range or a schedule that decays.

    References:
        Defazio et al., 2024, "The Road Less Scheduled", arXiv:2405.15682.

    Example:

    >>> weight = keras.Variable([1.0, -1.0])
    >>> optimizer = kopt.ScheduleFreeAdamW(learning_rate=0.1)
    >>> for _ in range(2):
    ...     optimizer.apply([keras.ops.convert_to_tensor([100.0, -0.01])], [weight])
    >>> optimizer.swap_to_eval()
    >>> print(weight.numpy().round(4))  # the mean of 0.9 and 0.8
    [ 0.85 -0.85]
    """

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        weight_decay: float | None = None,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        name: str = "schedule_free_adamw",
        **options: Unpack[CommonOptions],
    ) -> None:
        _checks.number("beta_1", beta_1, low=0, high=1, high_open=True)
        inner = AdamWithoutMomentum(
            with_warmup(learning_rate, warmup_steps), beta_2, epsilon, **options
        )
        super().__init__(inner, beta_1, weight_decay, r, weight_lr_power, name)
        self.beta_1 = self.momentum
        self.beta_2, self.epsilon = inner.beta_2, inner.epsilon
        self.warmup_steps = warmup_steps
