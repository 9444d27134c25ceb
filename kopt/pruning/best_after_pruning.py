"""The best epoch of a pruned model, of those that are as sparse as was asked."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from kopt import _callback_state, _checks
from kopt._registry import register
from kopt.pruning._progress import final_step, has_ended, next_step
from kopt.pruning.callbacks import OfPrunedModels

Logs = dict[str, Any] | None


@register("pruning", serializable=False)
class BestAfterPruning(OfPrunedModels):
    """Lets callbacks that look for the best epoch see those after pruning alone.

    While the sparsity rises, a model is often best before most of it is pruned, and
    `EarlyStopping(restore_best_weights=True)` or `ModelCheckpoint(save_best_only=True)`
    would bring back a model that is less sparse than was asked. Inside this callback
    they count from the first epoch that ends with all masks as sparse as they will be:
    earlier ones are neither best, nor saved, nor a reason to stop. With
    `ConstantSparsity` that is its first pruning, with other schedules their last.

    Args:
        callbacks: The callbacks to hold back, one or several: `EarlyStopping`,
            `ModelCheckpoint`, `ReduceLROnPlateau` or your own.

    Raises:
        TypeError: If something that is given is no Keras callback.
        ValueError: When training begins, if the model is not pruned, or if it is by a
            schedule that does not say where it ends (`end_step`).

    Example:

    >>> best = keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)
    >>> callbacks = [kopt.pruning.BestAfterPruning(best)]
    """

    def __init__(self, *callbacks: keras.callbacks.Callback) -> None:
        super().__init__()
        for callback in callbacks:
            if not isinstance(callback, keras.callbacks.Callback):
                raise TypeError(
                    "`callbacks` must be Keras callbacks, one argument each. Received: "
                    f"{callback!r}."
                )
        _checks.integer("len(callbacks)", len(callbacks), low=1)
        self.callbacks = callbacks

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        for callback in self.callbacks:
            callback.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        endless = [group for group in self.groups if final_step(group) is None]
        if endless:
            raise ValueError(
                f"The pruning schedule {endless[0].schedule!r} does not say where it "
                "ends, so there is no epoch to count from. Give it an attribute "
                "`end_step`: the last step that renews the masks."
            )
        self._counted = False
        self._each("on_train_begin", logs)

    def on_train_end(self, logs: Logs = None) -> None:
        self._each("on_train_end", logs)
        if not self._counted:
            last = max(final_step(group) or 0 for group in self.groups)
            trained = max(next_step(group) for group in self.groups) - 1
            warnings.warn(
                f"No epoch was as sparse as was asked: pruning ends at step {last}, "
                f"and training ended after step {trained}. Nothing was "
                "best, saved or restored by the callbacks in BestAfterPruning.",
                stacklevel=2,
            )

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._each("on_epoch_begin", epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self._pruned():
            self._counted = True
            self._each("on_epoch_end", epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._each("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        # `ModelCheckpoint(save_freq=100)` saves here.
        if self._pruned():
            self._each("on_train_batch_end", batch, logs)

    def on_test_begin(self, logs: Logs = None) -> None:
        self._each("on_test_begin", logs)

    def on_test_end(self, logs: Logs = None) -> None:
        self._each("on_test_end", logs)

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._each("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._each("on_test_batch_end", batch, logs)

    def get_state(self) -> dict[str, Any]:
        """What it and the callbacks inside know of a run, for a backup."""
        states = [_callback_state.state_of(callback) for callback in self.callbacks]
        return {"counted": self._counted, "callbacks": states}

    def set_state(self, state: dict[str, Any]) -> None:
        """Know what was known in the run that goes on."""
        self._counted = state["counted"]
        for callback, inner in zip(self.callbacks, state["callbacks"], strict=True):
            if inner is not None:
                _callback_state.bring_back(callback, inner)

    def _pruned(self) -> bool:
        return all(has_ended(group) for group in self.groups)

    def _each(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)
