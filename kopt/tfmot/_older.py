"""The way to tf_keras."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from kopt._keras.two_versions import Call, mask_of
from kopt.tfmot import _functions, _layers, _operations
from kopt.tfmot._packages import tf_keras
from kopt.tfmot._rebuilding import Dialect, Rebuilder, Unsupported
from kopt.tfmot._variables import plain_name


class Older(Dialect):
    """Models of Keras 3 become models of tf_keras."""

    name = "tf_keras"
    older = True
    origin = keras

    def __init__(self) -> None:
        self.library = tf_keras()

    def layer(self, layer: Any, rebuilder: Rebuilder) -> Any:
        return _layers.rebuilt(layer, rebuilder)

    def activation(self, value: Any) -> Any:
        return _functions.older_activation(value)

    def arguments(self, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # Keras 3 sets `training` in every call anew, whatever it was when the graph was
        # made, and fills in the masks that come with the tensors; tf_keras does both.
        if not isinstance(call.layer, keras.Layer):
            return call.args, call.kwargs
        passed = inspect.signature(call.layer.call).parameters
        bound = dict(zip(passed, call.args, strict=False))
        kwargs = {
            name: value
            for name, value in call.kwargs.items()
            if name != "training"
            and value is not None
            and not _comes_by_itself(name, value, bound | call.kwargs)
        }
        return call.args, kwargs

    def apply(self, operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        return _operations.apply(operation, args, kwargs)

    def input(self, tensor: Any, layer: Any) -> Any:
        if layer.get_config().get("optional"):
            raise Unsupported(f"its input {layer.name} is optional")
        return self.library.Input(
            batch_shape=tensor.shape,
            dtype=tensor.dtype,
            sparse=tensor.sparse,
            name=plain_name(layer.name),
        )


def _comes_by_itself(name: str, value: Any, arguments: dict[str, Any]) -> bool:
    """Whether an argument is the mask that Keras hands on with a tensor."""
    if name == "mask":
        tensors = next(iter(arguments.values()))
    elif name.endswith("_mask"):
        tensors = arguments.get(name.removesuffix("_mask"))
    else:
        return False
    masks = keras.tree.flatten(keras.tree.map_structure(mask_of, tensors))
    given = keras.tree.flatten(value)
    return len(given) == len(masks) and all(map(lambda a, b: a is b, given, masks))
