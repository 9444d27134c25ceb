"""What the callbacks of Keras know of a run.

They keep it in attributes, documented nowhere and some of them private, and have no way
to hand it over. What each of them needs is named here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

_OF = keras.callbacks
_ATTRIBUTES: dict[type, tuple[str, ...]] = {
    _OF.EarlyStopping: (
        "best",
        "best_epoch",
        "best_weights",
        "stopped_epoch",
        "wait",
    ),
    _OF.ReduceLROnPlateau: ("best", "cooldown_counter", "wait"),
    _OF.ModelCheckpoint: (
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
        "best",
    ),
    _OF.CSVLogger: ("keys",),
    _OF.History: ("epoch", "history"),
    _OF.SwapEMAWeights: ("_ema_weights_in_model",),
    _OF.TensorBoard: (
        "_global_test_batch",
        "_global_train_batch",
        "_previous_epoch_iterations",
    ),
}
# Those that know nothing from one call to the next, or only show something.
_WITHOUT: tuple[type, ...] = (
    _OF.LearningRateScheduler,
    _OF.TerminateOnNaN,
    _OF.ProgbarLogger,
    _OF.LambdaCallback,
    _OF.RemoteMonitor,
)


def is_known(callback: keras.callbacks.Callback) -> bool:
    """Whether it is one of Keras's, of which all is told."""
    return has_state(callback) or isinstance(callback, _WITHOUT)


def has_state(callback: keras.callbacks.Callback) -> bool:
    """Whether it is one of Keras's that knows something."""
    return _names(callback) is not None


def state_of(callback: keras.callbacks.Callback) -> dict[str, Any] | None:
    """What one of Keras's callbacks knows of a run, or `None`."""
    names = _names(callback)
    if names is None:
        return None
    state = {name: _plain(getattr(callback, name)) for name in names}
    if isinstance(callback, _OF.CSVLogger):
        state["content"] = _content(callback)
    return state


def bring_back(callback: keras.callbacks.Callback, state: dict[str, Any]) -> None:
    """Give it back to a callback of the same kind."""
    for name in _names(callback) or ():
        setattr(callback, name, state[name])
    if isinstance(callback, _OF.CSVLogger):
        _continue_file(callback, state["content"])


def _plain(value: Any) -> Any:
    """A value without tensors, and apart from what the callback goes on to change."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if keras.ops.is_tensor(value):
        value = keras.ops.convert_to_numpy(value)
    return np.array(value) if isinstance(value, (np.ndarray, np.generic)) else value


def _content(logger: Any) -> str:
    """What a logger has written so far."""
    if logger.csv_file is None or logger.csv_file.closed:
        return ""
    logger.csv_file.flush()
    # Whatever the file's lines end with, it is written so again.
    with Path(logger.filename).open(newline="") as file:
        return file.read()


def _continue_file(logger: Any, content: str) -> None:
    """Write on where a logger was; rows of what is trained again are dropped."""
    if logger.csv_file is not None and not logger.csv_file.closed:
        logger.csv_file.close()
    with Path(logger.filename).open("w", newline="") as file:
        file.write(content)
    logger.csv_file = Path(logger.filename).open("a")
    logger.writer = None
    logger.append_header = not content


def _names(callback: keras.callbacks.Callback) -> tuple[str, ...] | None:
    for kind, names in _ATTRIBUTES.items():
        if isinstance(callback, kind):
            return names
    return None
