"""How long the `fit` is that calls a callback.

Keras says it in `params`, but not to callbacks in a list that the user made without
them. Then it is in what `fit` has before it.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras


def fit_length(callback: keras.callbacks.Callback) -> tuple[int | None, int | None]:
    """Batches of an epoch, and epochs, each `None` where it is not known."""
    params = callback.params or {}
    if params.get("epochs"):
        return params.get("steps"), params["epochs"]
    known = locals_of_fit(callback)
    if known is None:
        return None, None
    return known["epoch_iterator"].num_batches, known.get("epochs")


def has_validation(callback: keras.callbacks.Callback) -> bool | None:
    """Whether the `fit` that calls a callback has validation data, if that is known."""
    known = locals_of_fit(callback)
    return None if known is None else known.get("validation_data") is not None


def locals_of_fit(callback: keras.callbacks.Callback) -> dict[str, Any] | None:
    """What the `fit` that calls a callback has before it, by its own names."""
    frame = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals
        if found.get("self") is callback.model and "epoch_iterator" in found:
            return found
        frame = frame.f_back
    return None
