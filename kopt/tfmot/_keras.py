"""The private names of Keras 3 and of tf_keras that the bridge needs, in one place.

Neither has a public way to read the calls that a functional model is made of, to name
an operation, to list the variables of a layer apart from those of the layers inside
it, to see which mask Keras passed by itself, or to reach the layers that only
`applications` use. Each name has a canary in `tests/tfmot/test_keras.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import keras

from kopt.tfmot._packages import tf_keras

# The layers that `applications` define for themselves, the same in both.
_APPLICATION_LAYERS = {
    "CustomScaleLayer": "inception_resnet_v2",
    "LayerScale": "convnext",
    "StochasticDepth": "convnext",
}


class Call(NamedTuple):
    """One call of a layer or an operation inside a functional model.

    Args:
        layer: What was called.
        args: Its arguments by position, with symbolic tensors of the model in them.
        kwargs: Its arguments by name.
        outputs: The symbolic tensors that came out, flat.
    """

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Any]


def is_older(layer: Any) -> bool:
    """Whether a layer or model belongs to tf_keras."""
    # Asked of models of Keras 3 as well, for which tf_keras need not be loaded.
    return any(kind.__module__.startswith("tf_keras.") for kind in type(layer).__mro__)


def is_functional(model: Any) -> bool:
    """Whether a model is what its graph says: it has one, and no `call` of its own."""
    if not hasattr(model, "_nodes_by_depth"):
        return False
    library = "tf_keras.src.engine" if is_older(model) else "keras.src.models"
    functional = importlib.import_module(f"{library}.functional").Functional
    return type(model).call is functional.call


def calls(model: Any) -> Iterator[Call]:
    """The calls that a functional model is made of, inputs first."""
    older = is_older(model)
    for _, nodes in sorted(model._nodes_by_depth.items(), reverse=True):
        for node in nodes:
            if node.is_input:
                continue
            outputs = keras.tree.flatten(node.outputs)
            if older:
                yield Call(node.layer, tuple(node.call_args), node.call_kwargs, outputs)
            else:
                arguments = node.arguments
                yield Call(node.operation, arguments.args, arguments.kwargs, outputs)


def input_layer(tensor: Any) -> Any:
    """The layer that an input of a model comes from."""
    history = tensor._keras_history
    return history.layer if is_older(history[0]) else history.operation


def mask_of(tensor: Any) -> Any:
    """The mask that Keras 3 hands on with a tensor by itself, if any."""
    return getattr(tensor, "_keras_mask", None)


def own_variables(layer: Any) -> list[Any]:
    """A layer's variables without those of the layers inside it."""
    if is_older(layer):
        return [*layer._trainable_weights, *layer._non_trainable_weights]
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def inner_layers(layer: Any) -> list[Any]:
    """The layers directly inside a layer or model, each once."""
    if isinstance(layer, keras.Model) or hasattr(layer, "_nodes_by_depth"):
        found = layer.layers
    elif is_older(layer):
        found = layer._flatten_layers(recursive=False, include_self=False)
    else:
        found = layer._layers
    return list({id(inner): inner for inner in found}.values())


def is_of_keras(thing: Any) -> bool:
    """Whether a layer, an operation or a function is one of either Keras's own."""
    module = getattr(thing, "__module__", None) or type(thing).__module__
    return str(module).startswith(("keras.src.", "tf_keras.src."))


def layer_class(kind: type, *, older: bool) -> type | None:
    """The class of the same name in tf_keras, or in Keras 3; None if it has none."""
    library = tf_keras() if older else keras
    name = kind.__name__
    if name in _APPLICATION_LAYERS and ".applications." in kind.__module__:
        package = "tf_keras" if older else "keras"
        module = f"{package}.src.applications.{_APPLICATION_LAYERS[name]}"
        found: type = getattr(importlib.import_module(module), name)
        return found
    if older and name == "SpectralNormalization":
        return _spectral_normalization()
    return getattr(library.layers, name, None)


@cache
def _spectral_normalization() -> type:
    """The layer of tf_keras, which else cannot be built beside Keras 3.

    It takes the class for its input specification from `tf.compat.v2.keras`, which is
    Keras 3 unless TF-MOT was loaded first.
    """
    library = tf_keras()

    @library.saving.register_keras_serializable("kopt")
    class SpectralNormalization(library.layers.SpectralNormalization):  # type: ignore
        @property
        def input_spec(self) -> Any:
            return super().input_spec

        @input_spec.setter
        def input_spec(self, spec: Any) -> None:
            if isinstance(spec, keras.InputSpec):
                spec = library.layers.InputSpec(shape=spec.shape)
            library.layers.Layer.input_spec.fset(self, spec)

    SpectralNormalization.__module__ = library.layers.SpectralNormalization.__module__
    return SpectralNormalization


def symbol_of(layer: Any) -> str | None:
    """The TensorFlow function that a layer of tf_keras stands for, if it does."""
    return getattr(layer, "symbol", None)


def is_symbolic(part: Any) -> bool:
    """Whether something is a symbolic tensor of tf_keras."""
    return isinstance(part, tf_keras().__internal__.KerasTensor)


def is_operation(layer: Any) -> bool:
    """Whether a layer of tf_keras stands for a function and not for itself."""
    return symbol_of(layer) is not None or hasattr(layer, "keras_operation")


def name_operations(result: Any, inputs: Any, name: str) -> None:
    """Name the operations of Keras 3 that made `result` of `inputs`.

    By itself Keras counts them up without a look at the model's layers, whose names
    they then repeat.
    """
    known = {id(tensor) for tensor in keras.tree.flatten(inputs)}
    open_tensors, number = keras.tree.flatten(result), 0
    while open_tensors:
        tensor = open_tensors.pop(0)
        if id(tensor) in known or not isinstance(tensor, keras.KerasTensor):
            continue
        known.add(id(tensor))
        operation, index, _ = tensor._keras_history
        operation.name = f"{name}_step{number}" if number else name
        number += 1
        node = operation._inbound_nodes[index]
        open_tensors += node.arguments.keras_tensors
