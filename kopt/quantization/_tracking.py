"""What Keras knows of a layer's parts: the one place that uses Keras's private names.

`Layer._flatten_layers` lists the sublayers of any layer (`Model.layers` is public,
but stops at the first level and at models).
`Functional._inputs_struct` tells a list of inputs from a dict of inputs, which
`Model.inputs` does not. `MultiHeadAttention` puts its masks together in
`_compute_attention_mask`, and holds its dropout as `_dropout_layer`.
"""

from __future__ import annotations

from typing import Any

import keras

from kopt._sublayers import add_sublayer as add_sublayer
from kopt._sublayers import remove_sublayer as remove_sublayer


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """All layers inside a layer or model, at any depth, without itself."""
    return layer._flatten_layers(include_self=False, recursive=True)


def own_layers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers that a layer holds itself, not those inside these."""
    return layer._flatten_layers(include_self=False, recursive=False)


def symbolic_inputs(model: keras.Model) -> Any:
    """The symbolic inputs of a model, in the structure that it is called with.

    None for a model that has none, as one that was subclassed.
    """
    inputs = getattr(model, "_inputs_struct", None)
    if inputs is not None:
        return inputs
    inputs = getattr(model, "inputs", None) or None
    return inputs[0] if inputs and len(inputs) == 1 else inputs


def attention_mask(layer: Any, query: Any, value: Any, masks: Any) -> Any:
    """All masks of an attention's call as one, `(batch, queries, keys)`, or None."""
    return layer._compute_attention_mask(query, value, **masks)


def attention_dropout(layer: Any) -> keras.Layer:
    """The layer that drops probabilities in an attention."""
    return layer._dropout_layer
