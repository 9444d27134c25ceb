"""The private names of Keras that clustering needs, all in one place.

Keras has no public way to give a built layer one part more, to read a variable without
the cast of mixed precision, or to know which layer added a loss. Each name has a canary
in `tests/clustering/test_keras.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras.src.backend.common.variables import AutocastScope

from kopt._weights import nested_layers


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


def uncast() -> AutocastScope:
    """A scope in which variables read in the type that they are stored in."""
    return AutocastScope(None)


def add_again(layer: keras.Layer, losses: Sequence[Any]) -> None:
    """Give losses that were caught by a scope to the layers inside that added them."""
    for one in [layer, *nested_layers(layer)] if losses else []:
        own = [loss for loss in losses if id(loss) in one._loss_ids]
        if own:
            one.add_loss(own)
