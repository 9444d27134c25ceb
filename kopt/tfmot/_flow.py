"""What the three verbs share: choosing layers, wrapping them, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from kopt._keras.two_versions import inner_layers, input_layer
from kopt.tfmot import _variables
from kopt.tfmot._packages import tf_keras
from kopt.tfmot._variables import plain_name

Selection = Iterable[keras.Layer | str] | Callable[[keras.Layer], bool]

# They keep words and not weights; a copy from their configuration would not know them.
_LOOKUPS = (
    keras.layers.IntegerLookup,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)


def chosen_names(model: keras.Model, layers: Selection | None) -> set[str] | None:
    """The names of the layers that the user chose; None for all.

    Raises:
        ValueError: If that is no layer of the model.
    """
    if layers is None:
        return None
    known = {layer.name: layer for layer in _leaves(model)}
    if callable(layers):
        names = {name for name, layer in known.items() if layers(layer)}
    else:
        if isinstance(layers, (str, keras.Layer)):
            layers = [layers]
        names = {part if isinstance(part, str) else part.name for part in layers}
    if not names or names - set(known):
        raise ValueError(
            "`layers` must choose layers of the model, by name, as layers, or by a "
            f"function. Received: {sorted(names - set(known)) or 'none at all'}. The "
            f"model has: {', '.join(known)}."
        )
    return {plain_name(name) for name in names}


def _leaves(model: Any) -> list[keras.Layer]:
    found = []
    for layer in inner_layers(model):
        found += _leaves(layer) if isinstance(layer, keras.Model) else [layer]
    return [layer for layer in found if not isinstance(layer, keras.layers.InputLayer)]


def wrapped(model: Any, names: set[str] | None, wrap: Callable[[Any], Any]) -> Any:
    """A tf_keras model with the chosen layers wrapped, at any depth."""
    library = tf_keras()

    def clone(layer: Any) -> Any:
        if isinstance(layer, library.Model):
            return library.models.clone_model(layer, clone_function=clone)
        return wrap(layer) if names is None or layer.name in names else layer

    return clone(model)


def refusal(error: Exception) -> ValueError:
    """TF-MOT's refusal, with what the user can do about it."""
    return ValueError(
        f"TF-MOT refuses the model: {str(error).strip()} Choose the layers that it "
        "knows with `layers`, or use kopt's own verb, which takes any layer."
    )


def returned(trained: Any, model: keras.Model) -> keras.Model:
    """A copy of `model` with the weights that its twin has learned."""
    copy: keras.Model = keras.models.clone_model(
        model, _inputs(model), clone_function=_copied, recursive=True
    )
    _variables.copy(trained, copy)
    for variable in copy.weights:
        variable.assign(_with_one_zero(variable.numpy()))
    return copy


def _with_one_zero(values: np.ndarray) -> np.ndarray:
    """The same values, with 0 in the place of -0.

    A mask leaves -0 of a negative weight, and a file with two kinds of zeros compresses
    less well.
    """
    values = np.array(values)
    values[values == 0] = 0
    return values


def _inputs(model: keras.Model) -> Any:
    """New inputs with the names of the old ones, which a file made of it will have."""
    if isinstance(model, keras.Sequential):
        return None  # Keras itself keeps the name

    def renewed(tensor: keras.KerasTensor) -> keras.KerasTensor:
        return keras.Input(
            batch_shape=tensor.shape,
            dtype=tensor.dtype,
            sparse=tensor.sparse,
            name=input_layer(tensor).name,
        )

    return keras.tree.map_structure(renewed, model.input)


def _copied(layer: keras.Layer) -> keras.Layer:
    if isinstance(layer, _LOOKUPS):
        return layer
    copied: keras.Layer = type(layer).from_config(layer.get_config())
    return copied
