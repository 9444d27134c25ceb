"""Callbacks for models that are pruned: pruning itself needs none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt._registry import register
from kopt.pruning._carrier import groups_inside
from kopt.pruning._group import MaskConstraint, MaskGroup


class OfPrunedModels(keras.callbacks.Callback):
    """Looks, when training begins, for what is pruned."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.groups: list[MaskGroup] = groups_inside(self.model)
        if not self.groups:
            raise ValueError(
                f"{type(self).__name__} is for pruned models, and {self.model.name!r} "
                "is not one. Call `kopt.pruning.prune_low_magnitude(model)` first, or "
                "leave the callback out."
            )


@register("pruning", serializable=False)
class UpdatePruningStep(OfPrunedModels):
    """Accepted for scripts that were written for TensorFlow Model Optimization.

    There each `fit` needs it. Here the masks count their steps themselves, in any
    training loop, and this callback only makes sure that the model is pruned.

    Raises:
        ValueError: When training begins, if the model is not pruned.

    Example:

    >>> callbacks = [kopt.pruning.UpdatePruningStep()]
    """


@register("pruning", serializable=False)
class PruningSummaries(OfPrunedModels):
    """Write to TensorBoard how sparse each pruned weight is.

    At the end of each epoch, under the step that pruning counts: `sparsity/WEIGHT` and
    `sparsity/all`, the share of zeros; `schedule/WEIGHT`, what the schedule asks for;
    `smallest_left/WEIGHT`, the smallest magnitude that is left.

    Args:
        log_dir: The folder that TensorBoard is pointed at. It is made where it is not.

    Raises:
        OSError: When training begins, if it cannot be made.
        ValueError: When training begins, if the model is not pruned.

    Example:

    >>> callbacks = [kopt.pruning.PruningSummaries("logs/pruning")]
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        super().__init__()
        self.log_dir = Path(log_dir)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._writer = tf.summary.create_file_writer(str(self.log_dir))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        kept = size = 0
        with self._writer.as_default():
            for group in self.groups:
                # The step that was trained last; the group counts the next.
                step = int(group.step.numpy()) - 1
                for member in group.members:
                    # Of whole filters their biases are left out, as in the report.
                    if not getattr(member.layout, "is_scored", True):
                        continue
                    mask = member.mask.numpy()
                    kept, size = kept + mask.sum(), size + mask.size
                    self._write(group, member, mask, step)
            tf.summary.scalar("sparsity/all", 1 - kept / size, step)
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._writer.close()

    def _write(
        self, group: MaskGroup, member: MaskConstraint, mask: np.ndarray, step: int
    ) -> None:
        path = member.variable.path
        tf.summary.scalar(f"sparsity/{path}", 1 - mask.mean(), step)
        left = np.abs(keras.ops.convert_to_numpy(member.variable))[mask]
        tf.summary.scalar(f"smallest_left/{path}", left.min(), step)
        if group.pattern.is_scheduled:
            tf.summary.scalar(f"schedule/{path}", group.schedule(step)[1], step)
