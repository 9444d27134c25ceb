"""What a model is made of, in Keras 3 and in the older tf_keras alike.

Neither has a public way to read the calls that a functional model is made of, to name
an operation, to list the variables of a layer apart from those of the layers inside
it, to see which mask Keras passed by itself, or to reach the layers that only
`applications` use.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from kopt._keras.layer_tree import own_layers

# The layers that `applications` define for themselves, the same in both.
APPLICATION_LAYERS = {
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
    origins = ("tf_keras.", "tensorflow.python.keras.")
    return any(kind.__module__.startswith(origins) for kind in type(layer).__mro__)


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
    is_model = isinstance(layer, keras.Model) or hasattr(layer, "_nodes_by_depth")
    found = layer.layers if is_model else own_layers(layer)
    return list({id(inner): inner for inner in found}.values())


def is_of_keras(thing: Any) -> bool:
    """Whether a layer, an operation or a function is one of either Keras's own."""
    module = getattr(thing, "__module__", None) or type(thing).__module__
    return str(module).startswith(("keras.src.", "tf_keras.src."))


def application_layer(kind: type, *, older: bool) -> type | None:
    """The class of `applications`' own in one Keras for the one of either, if any."""
    module = APPLICATION_LAYERS.get(kind.__name__)
    if module is None or ".applications." not in kind.__module__:
        return None
    package = "tf_keras" if older else "keras"
    library = importlib.import_module(f"{package}.src.applications.{module}")
    found: type = getattr(library, kind.__name__)
    return found


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
