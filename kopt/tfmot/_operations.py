"""`keras.ops` inside a functional model, as layers of tf_keras."""

from __future__ import annotations

from functools import cache
from typing import Any

import keras

from kopt._keras.two_versions import is_of_keras
from kopt.tfmot._layer_classes import is_symbolic
from kopt.tfmot._packages import tf_keras

# Operations on tensors for which tf_keras has a layer.
_MERGING = {
    "Add": "Add",
    "Maximum": "Maximum",
    "Minimum": "Minimum",
    "Multiply": "Multiply",
    "Subtract": "Subtract",
}
_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}
_PLACE = "kopt tensor "


def apply(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The result of an operation of Keras 3 on symbolic tensors of tf_keras.

    Where tf_keras has a layer that does the same, that is used: TF-MOT knows it.
    """
    kind = type(operation).__name__
    if is_of_keras(type(operation)) and not kwargs:
        layer = _native(kind, args, operation.name)
        if layer is not None:
            tensors = [part for part in args if _is_tensor(part)]
            return layer(tensors if len(tensors) > 1 else tensors[0])
    return _wrapped(operation, args, kwargs)


def _native(kind: str, args: tuple, name: str) -> Any:
    layers = tf_keras().layers
    tensors = [part for part in args if _is_tensor(part)]
    if len(args) == 1 and len(tensors) == 1 and kind in _ACTIVATIONS:
        return layers.Activation(_ACTIVATIONS[kind], name=name)
    if len(args) != 2 or not all(_is_float(tensor) for tensor in tensors):
        return None
    if len(tensors) == 2:
        alike = len({(len(t.shape), t.dtype) for t in tensors}) == 1
        if not alike or kind not in _MERGING:
            return None
        return getattr(layers, _MERGING[kind])(name=name)
    if len(tensors) == 1 and all(
        _is_tensor(part) or isinstance(part, (int, float)) for part in args
    ):
        return _scaling(kind, args, tensors[0].dtype.name, name)
    return None


def _scaling(kind: str, args: tuple, dtype: str, name: str) -> Any:
    """`x + 3`, `x * 2`, `1 - x` and their like."""
    constant = next(float(part) for part in args if not _is_tensor(part))
    first = _is_tensor(args[0])
    scale, offset = {
        ("Add", True): (1.0, constant),
        ("Add", False): (1.0, constant),
        ("Subtract", True): (1.0, -constant),
        ("Subtract", False): (-1.0, constant),
        ("Multiply", True): (constant, 0.0),
        ("Multiply", False): (constant, 0.0),
    }.get((kind, first), (None, None))
    if scale is None:
        return None
    return tf_keras().layers.Rescaling(scale, offset, name=name, dtype=dtype)


def _wrapped(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    tensors: list[Any] = []

    def place(part: Any) -> Any:
        if not _is_tensor(part):
            return part
        tensors.append(part)
        return f"{_PLACE}{len(tensors) - 1}"

    arguments = keras.tree.map_structure(place, [list(args), kwargs])
    layer = operation_layer()(operation, arguments, name=operation.name)
    return layer(tensors if len(tensors) > 1 else tensors[0])


@cache
def operation_layer() -> Any:
    """The class of tf_keras that carries an operation of Keras 3."""
    library = tf_keras()

    @library.saving.register_keras_serializable("kopt")
    class KerasOperation(library.layers.Layer):  # type: ignore[name-defined]
        """Calls an operation of Keras 3.

        Args:
            operation: The operation.
            arguments: Its positional and its named arguments, with a text in the place
                of each tensor.
        """

        def __init__(self, operation: Any, arguments: Any, **kwargs: Any) -> None:
            # Whatever type comes in is meant.
            super().__init__(autocast=False, **kwargs)
            self.keras_operation = operation
            self.arguments = arguments

        def call(self, inputs: Any) -> Any:
            tensors = inputs if isinstance(inputs, (list, tuple)) else [inputs]
            args, kwargs = self.placed(tensors)
            return self.keras_operation(*args, **kwargs)

        def placed(self, tensors: Any) -> Any:
            def fill(part: Any) -> Any:
                if isinstance(part, str) and part.startswith(_PLACE):
                    return tensors[int(part.removeprefix(_PLACE))]
                return part

            return keras.tree.map_structure(fill, self.arguments)

        def get_config(self) -> dict[str, Any]:
            serialize = keras.saving.serialize_keras_object
            return super().get_config() | {
                "operation": serialize(self.keras_operation),
                "arguments": serialize(self.arguments),
            }

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            load = keras.saving.deserialize_keras_object
            config = {key: value for key, value in config.items() if key != "autocast"}
            operation, arguments = load(config["operation"]), load(config["arguments"])
            return cls(**config | {"operation": operation, "arguments": arguments})

    return KerasOperation


def _is_tensor(part: Any) -> bool:
    return is_symbolic(part)


def _is_float(tensor: Any) -> bool:
    return bool(tensor.dtype.is_floating)
