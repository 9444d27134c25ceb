from __future__ import annotations

from typing import Any

from keras import ops

from kopt._registry import register
from kopt.pruning._schedule import (
    PruningSchedule,
    checked_sparsity,
    checked_steps,
)


@register("pruning")
class ConstantSparsity(PruningSchedule):
    """The same sparsity from the first pruning step on.

    The masks are renewed every `frequency` steps, so that a weight that was pruned can
    come back in the place of a smaller one. With `end_step` equal to `begin_step` the
    model is pruned once and trains on with these masks.

    Args:
        target_sparsity: The share of weights that are zero, from 0 to below 1.
        begin_step: The first step that prunes. Steps count from 1; with 0 the first
            pruning is at step `frequency`.
        end_step: No step after this one renews the masks; they stay in force. -1
            renews them until training ends. Defaults to -1.
        frequency: Steps from one renewal to the next. Defaults to 100.

    Raises:
        ValueError: If a sparsity is not in [0, 1), if `end_step` comes before
            `begin_step`, or if `frequency` is less than 1.

    Example:

    >>> schedule = kopt.pruning.ConstantSparsity(0.5, begin_step=10, frequency=5)
    >>> [step for step in range(1, 25) if schedule(step)[0]]
    [10, 15, 20]
    """

    def __init__(
        self,
        target_sparsity: float,
        begin_step: int,
        end_step: int = -1,
        frequency: int = 100,
    ) -> None:
        self.target_sparsity = checked_sparsity("target_sparsity", target_sparsity)
        self.begin_step, self.end_step, self.frequency = checked_steps(
            begin_step, end_step, frequency, endless=True
        )

    def sparsity(self, step: Any) -> Any:
        return ops.convert_to_tensor(self.target_sparsity, "float32")

    @property
    def final_step(self) -> int:
        """The first step that renews the masks: the sparsity is the same from there."""
        return self.first_step

    def get_config(self) -> dict[str, Any]:
        return {"target_sparsity": self.target_sparsity, **super().get_config()}
