from __future__ import annotations

from typing import Any, Self

from kopt import _checks
from kopt._registry import register
from kopt.pruning.constant_sparsity import ConstantSparsity


@register("pruning")
class OneShot(ConstantSparsity):
    """Prune once, and keep to that choice.

    At step 1, the default, the masks are there as soon as the model is pruned, before
    any training: for a trained model that is fine-tuned or used as it is.

    Args:
        target_sparsity: The share of zeros, from 0 to below 1.
        step: The training step that is the first with them, from 1. Defaults to `1`.

    Raises:
        ValueError: If a sparsity is not in [0, 1), or `step` is less than 1.

    Example:

    >>> model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(10)])
    >>> schedule = kopt.pruning.OneShot(0.75)
    >>> model = kopt.pruning.prune_low_magnitude(model, schedule)
    >>> kopt.pruning.sparsity_report(model).sparsity
    0.75
    """

    def __init__(self, target_sparsity: float, step: int = 1) -> None:
        self.step = _checks.integer("step", step, low=1)
        super().__init__(target_sparsity, step, step, frequency=1)

    def in_epochs(self, steps_per_epoch: int) -> Self:
        """The same, with `step` read as a number of epochs that come before."""
        steps = _checks.integer("steps_per_epoch", steps_per_epoch, low=1)
        return type(self)(self.target_sparsity, self.step * steps)

    def get_config(self) -> dict[str, Any]:
        return {"target_sparsity": self.target_sparsity, "step": self.step}
