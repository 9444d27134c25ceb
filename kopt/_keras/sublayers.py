"""Give a finished layer one part more, and take it away again.

`Layer._tracker` is locked once a layer is built, and Keras has no public way to open
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


def add_sublayer(layer: keras.Layer, name: str, sublayer: keras.Layer) -> None:
    """Make a layer a part of a built one: its weights are trained and saved with it."""
    vars(sublayer)["kopt_added"] = True
    with _unlocked(layer):
        setattr(layer, name, sublayer)


def is_added(layer: keras.Layer) -> bool:
    """Whether a layer was made a part of another by `add_sublayer`."""
    return "kopt_added" in vars(layer)


def remove_sublayer(layer: keras.Layer, name: str) -> None:
    """Undo `add_sublayer`."""
    with _unlocked(layer):
        layer._tracker.untrack(getattr(layer, name))
        delattr(layer, name)


@contextmanager
def _unlocked(layer: keras.Layer) -> Iterator[None]:
    locked = layer._tracker.locked
    layer._tracker.unlock()
    try:
        yield
    finally:
        if locked:
            layer._tracker.lock()
