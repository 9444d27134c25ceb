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
    with _unlocked(layer):
        setattr(layer, name, sublayer)


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
