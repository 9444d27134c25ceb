"""The private names of Keras that clustering needs, all in one place.

Keras has no public way to read a variable without the cast of mixed precision, or to
know which layer added a loss. Each name has a canary in
`tests/clustering/test_keras.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras.src.backend.common.variables import AutocastScope

from kopt._sublayers import add_sublayer as add_sublayer
from kopt._sublayers import remove_sublayer as remove_sublayer
from kopt._weights import nested_layers


def uncast() -> AutocastScope:
    """A scope in which variables read in the type that they are stored in."""
    return AutocastScope(None)


def add_again(layer: keras.Layer, losses: Sequence[Any]) -> None:
    """Give losses that were caught by a scope to the layers inside that added them."""
    for one in [layer, *nested_layers(layer)] if losses else []:
        own = [loss for loss in losses if id(loss) in one._loss_ids]
        if own:
            one.add_loss(own)
