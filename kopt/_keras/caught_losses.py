"""Losses that layers add while a scope of Keras replaces their variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from kopt._keras.layer_tree import with_nested_layers


def add_again(layer: keras.Layer, losses: Sequence[Any]) -> None:
    """Give losses that were caught by a scope to the layers inside that added them.

    Keras has no public way to know which layer added a loss.
    """
    for one in with_nested_layers(layer) if losses else []:
        own = [loss for loss in losses if id(loss) in one._loss_ids]
        if own:
            one.add_loss(own)
