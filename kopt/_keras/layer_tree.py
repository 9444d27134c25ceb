"""The layers inside a layer.

The public `Model.layers` stops at models and at layers that hold others, such as the
cell of an RNN, the two sides of a `Bidirectional`, the projections of an attention.
`Layer._flatten_layers` lists them all.
"""

from __future__ import annotations

import keras


def nested_layers(layer: keras.Layer) -> list[keras.Layer]:
    """All layers inside a layer or model, at any depth, without itself.

    A layer comes before those that it holds.
    """
    return list(layer._flatten_layers(include_self=False))


def with_nested_layers(layer: keras.Layer) -> list[keras.Layer]:
    """A layer or model and all layers inside it, at any depth."""
    return [layer, *nested_layers(layer)]


def own_layers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers that a layer holds itself, not those inside these."""
    return list(layer._flatten_layers(include_self=False, recursive=False))
