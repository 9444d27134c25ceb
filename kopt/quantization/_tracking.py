"""What Keras knows of a layer's parts: the one place that uses Keras's private names.

`Layer._flatten_layers` lists the sublayers of any layer (`Model.layers` is public,
but stops at the first level and at models). `Layer._tracker` is locked once a layer
is built; it has to be opened to give a finished layer one sublayer more.
`Functional._inputs_struct` tells a list of inputs from a dict of inputs, which
`Model.inputs` does not. `MultiHeadAttention` puts its masks together in
`_compute_attention_mask`, and holds its dropout as `_dropout_layer`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras


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


def add_sublayer(layer: keras.Layer, name: str, sublayer: keras.Layer) -> None:
    """Make `sublayer` a part of `layer`: its weights are counted, saved, restored."""
    with _unlocked(layer):
        setattr(layer, name, sublayer)


def remove_sublayer(layer: keras.Layer, name: str) -> None:
    """Undo `add_sublayer`."""
    with _unlocked(layer):
        layer._tracker.untrack(getattr(layer, name))
        delattr(layer, name)


def attention_mask(layer: Any, query: Any, value: Any, masks: Any) -> Any:
    """All masks of an attention's call as one, `(batch, queries, keys)`, or None."""
    return layer._compute_attention_mask(query, value, **masks)


def attention_dropout(layer: Any) -> keras.Layer:
    """The layer that drops probabilities in an attention."""
    return layer._dropout_layer


@contextmanager
def _unlocked(layer: keras.Layer) -> Iterator[None]:
    locked = layer._tracker.locked
    layer._tracker.unlock()
    try:
        yield
    finally:
        if locked:
            layer._tracker.lock()
