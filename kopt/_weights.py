"""Which weights of a model a method works on: kernels, of layers that a user names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from kopt._keras.layer_tree import nested_layers, with_nested_layers

# How layers name the weights that they multiply their input with, or look it up in.
_KERNEL_NAME = re.compile(r"(.*_)?(kernel|embeddings)|w|weights?")

Selection = Callable[[keras.Layer], bool] | Iterable[keras.Layer | str | type]


def layers_of_weights(model: keras.Model) -> dict[int, keras.Layer]:
    """The layer of each trainable weight, by the weight's `id`.

    It is the innermost one that has the weight, or the recurrent layer of a cell.
    """
    owners: dict[int, keras.Layer] = {}
    for layer in with_nested_layers(model):
        for variable in layer.trainable_variables:
            if not (_is_cell(layer) and id(variable) in owners):
                owners[id(variable)] = layer
    return owners


def is_kernel(variable: keras.Variable) -> bool:
    """Whether a variable is a float matrix, or more, that a layer works with."""
    return bool(
        len(variable.shape) >= 2
        and keras.backend.is_float_dtype(variable.dtype)
        and _KERNEL_NAME.fullmatch(variable.name)
    )


def chosen_weights(
    model: keras.Model, selection: Selection | None, owners: dict[int, keras.Layer]
) -> set[int]:
    """The `id`s of the trainable weights of the layers that a user chose.

    Args:
        model: The model.
        selection: The argument `layers` of a public function, or `None` for all.
        owners: What `layers_of_weights(model)` gave.

    Raises:
        ValueError: If a name or a layer is none of the model's.
    """
    if selection is None:
        return set(owners)
    if isinstance(selection, (str, keras.Layer)):
        selection = [selection]
    if callable(selection):
        return {key for key, layer in owners.items() if selection(layer)}
    chosen: set[int] = set()
    for item in selection:
        for layer in matching_layers(model, item):
            chosen |= {id(variable) for variable in layer.trainable_variables}
    return chosen


def matching_layers(
    model: keras.Model, item: Any, argument: str = "layers"
) -> Sequence[keras.Layer]:
    """The layers of a model, at any depth, that one item of a selection means.

    Args:
        model: The model.
        item: A layer, a layer class, or a regular expression for a name or a path.
        argument: The public argument that the item is from, for the error.

    Raises:
        ValueError: If it means none.
    """
    layers = nested_layers(model)
    if isinstance(item, str):
        found = [
            layer
            for layer in layers
            if re.fullmatch(item, layer.name) or re.fullmatch(item, layer.path or "")
        ]
    elif isinstance(item, type):
        found = [layer for layer in layers if isinstance(layer, item)]
    else:
        found = [layer for layer in layers if layer is item]
    if not found:
        known = ", ".join(dict.fromkeys(layer.name for layer in layers))
        raise ValueError(
            f"`{argument}` must be layers of the model, layer classes, or regular "
            "expressions that match a whole name or path. Received: "
            f"{item!r}, which fits none of: {known}."
        )
    return found


def _is_cell(layer: keras.Layer) -> bool:
    return hasattr(layer, "state_size") and not isinstance(layer, keras.layers.RNN)
