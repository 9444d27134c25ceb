"""Which callbacks may run beside a sweep of the learning rate.

A sweep visits weights and losses that are no part of training. What drives the rate,
keeps weights or acts on losses must not take them for training.
"""

from __future__ import annotations

import keras

from kopt.callbacks import _owners, _targets
from kopt.callbacks.backup_and_restore import BackupAndRestore
from kopt.callbacks.batch_size_ramp import BatchSizeRamp
from kopt.callbacks.eval_weights import EvalWeights
from kopt.callbacks.reduce_on_plateau import ReduceOnPlateau
from kopt.callbacks.spike_guard import SpikeGuard

_CALLBACKS = keras.callbacks
_REASONS: dict[type, str] = {
    _CALLBACKS.EarlyStopping: "would act on the losses of the sweep",
    _CALLBACKS.BackupAndRestore: "would back up the weights of the sweep",
    _CALLBACKS.SwapEMAWeights: "would average the weights of the sweep",
    BackupAndRestore: "would back up the weights of the sweep",
    BatchSizeRamp: "would change the batches of the sweep",
    EvalWeights: "would swap the weights of the sweep",
    SpikeGuard: "would keep steps from the sweep",
    ReduceOnPlateau: "would act on the losses of the sweep",
}


def conflict(
    other: keras.callbacks.Callback,
    model: keras.Model,
    rate: keras.Variable,
    *,
    one_epoch: bool,
) -> str | None:
    """What a callback would do beside a sweep that must not be, or `None`.

    Args:
        other: The other callback.
        model: The compiled model that both are used with.
        rate: The variable that the sweep drives.
        one_epoch: Whether the sweep ends within the first epoch, so that the end of an
            epoch finds the model as it was.
    """
    if isinstance(other, _owners.Mover) and other.is_curve:
        driven = [v for one in other.parts() for v in _targets.find(model, one.target)]
        taken = any(variable is rate for variable in driven)
        return "drives the learning rate too" if taken else None
    if isinstance(other, _CALLBACKS.ModelCheckpoint):
        # In the last epoch, or the only one, it writes the model as it was.
        overwrites = not other.save_best_only and "{" not in str(other.filepath)
        safe = other.save_freq == "epoch" and (one_epoch or overwrites)
        return None if safe else "would save the weights of the sweep"
    if getattr(other, "changes_model", False):
        return "changes the model for good"
    reasons = [text for kind, text in _REASONS.items() if isinstance(other, kind)]
    return reasons[0] if reasons else None
