"""How many samples at once a model keeps state for."""

from __future__ import annotations

import keras

from kopt._keras.layer_tree import with_nested_layers


def own_batch(model: keras.Model) -> int | None:
    """How many samples at once a model keeps state for; None if it keeps none."""
    sizes = {
        int(state.shape[0])
        for layer in with_nested_layers(model)
        if getattr(layer, "stateful", False)
        for state in keras.tree.flatten(getattr(layer, "states", None) or [])
    }
    return max(sizes, default=None)
