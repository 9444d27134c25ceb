"""What a callback knows of a run, for a backup to keep and to bring back.

A callback that learns something during a run (a best value, a count of bad epochs, a
place on a curve) offers two methods, and `kopt.callbacks.BackupAndRestore` then carries
it over an interruption:

- `get_state()` returns a dict by names. Values are numbers, text, booleans, `None`,
  NumPy arrays, and lists and dicts of these. It is called after all callbacks of a
  batch or an epoch.
- `set_state(state)` takes such a dict, with lists in the place of tuples. It is called
  in another `fit`, after all of `on_train_begin`. Where training goes on in the middle
  of an epoch it is called once more after `on_epoch_begin`. What `on_train_begin` made
  (references to variables, say) is there and stays. It raises `ValueError` where the
  state is that of a run that cannot go on as this one.

What lies in variables of the model or the optimizer is kept with them, and has no place
in the state. Keras's own callbacks have no such methods; `kopt._keras.callback_states`
speaks for those that need it.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import keras

from kopt._keras import callback_states


@runtime_checkable
class Resumable(Protocol):
    """A callback with a state."""

    def get_state(self) -> dict[str, Any]:
        """What it knows of the run."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Know of the run what another one knew."""
        ...


def has_state(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback tells what it knows of the run."""
    return isinstance(callback, Resumable) or callback_states.has_state(callback)


def state_of(callback: keras.callbacks.Callback) -> dict[str, Any] | None:
    """What a callback knows of the run; `None` if it does not tell."""
    if isinstance(callback, Resumable):
        return callback.get_state()
    return callback_states.state_of(callback)


def bring_back(callback: keras.callbacks.Callback, state: dict[str, Any]) -> None:
    """Give a callback a state that `state_of` gave."""
    if isinstance(callback, Resumable):
        callback.set_state(state)
    else:
        callback_states.bring_back(callback, state)


def may_forget(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback may know something that it does not tell."""
    if isinstance(callback, Resumable) or callback_states.is_known(callback):
        return False
    own = {name for name in vars(callback) if not name.startswith("__")}
    return bool(own - set(vars(keras.callbacks.Callback())))
