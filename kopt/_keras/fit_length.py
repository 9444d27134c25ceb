"""How long the `fit` is that calls a callback.

Keras says it in `params`, but not to callbacks in a list that the user made without
them. Then it is in what `fit` has before it.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras
import tensorflow as tf


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


def validates_after(callback: keras.callbacks.Callback, epoch: int) -> bool:
    """Whether the `fit` that calls a callback validates after an epoch, from 0."""
    known = locals_of_fit(callback)
    if known is None or known.get("validation_data") is None:
        return False
    every = known.get("validation_freq", 1)
    return (epoch + 1) % every == 0 if isinstance(every, int) else epoch + 1 in every


def validation_steps(callback: keras.callbacks.Callback) -> float:
    """How many steps on batches like those of training a validation is likely to have.

    0 where there is none, or Keras does not know how much data it has.
    """
    known = locals_of_fit(callback)
    if known is None or known.get("validation_data") is None:
        return 0.0
    batch = known.get("batch_size")
    own_batch = known.get("validation_batch_size") or batch or 32
    if batch is None:
        # A data set has batches of its own, of a size that Keras does not know.
        batch = 32 if hasattr(known.get("x"), "shape") else own_batch
    data, steps = known.get("val_x"), known.get("validation_steps")
    if steps is None and isinstance(data, tf.data.Dataset):
        steps = max(0, int(data.cardinality()))
    elif steps is None:
        steps = getattr(data, "num_batches", None)
    if steps is not None:
        is_array = hasattr(data, "shape")
        return float(steps) * (own_batch / batch if is_array else 1.0)
    first: Any = next(iter(keras.tree.flatten(data)), None)
    return len(first) / batch if hasattr(first, "__len__") else 0.0


def locals_of_fit(callback: keras.callbacks.Callback) -> dict[str, Any] | None:
    """What the `fit` that calls a callback has before it, by its own names."""
    frame = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals
        if found.get("self") is callback.model and "epoch_iterator" in found:
            return found
        frame = frame.f_back
    return None
