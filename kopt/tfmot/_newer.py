"""The way from tf_keras to Keras 3."""

from __future__ import annotations

from typing import Any

import keras

from kopt._keras.two_versions import Call, name_operations
from kopt.tfmot import _functions, _functions_of_tensorflow, _layers
from kopt.tfmot._layer_classes import symbol_of
from kopt.tfmot._packages import tf_keras
from kopt.tfmot._rebuilding import Dialect, Rebuilder, Unsupported
from kopt.tfmot._variables import plain_name


class Newer(Dialect):
    """Models of tf_keras become models of Keras 3."""

    name = "Keras 3"
    older = False
    library = keras

    def __init__(self) -> None:
        self.origin = tf_keras()

    def layer(self, layer: Any, rebuilder: Rebuilder) -> Any:
        if type(layer) is self.origin.layers.ThresholdedReLU:
            # There what equals the threshold becomes 0, here it stays.
            threshold = float(layer.theta)
            return keras.layers.ReLU(threshold=threshold, name=plain_name(layer.name))
        return _layers.rebuilt(layer, rebuilder)

    def activation(self, value: Any) -> Any:
        return _functions.newer_activation(value)

    def arguments(self, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kwargs = {key: value for key, value in call.kwargs.items() if value is not None}
        symbol = symbol_of(call.layer)
        if symbol is not None:
            _functions_of_tensorflow.check(symbol)
            return call.args, kwargs
        training = kwargs.get("training")
        if training is not None:
            raise Unsupported(
                f"it was called with training={training!r}, which a functional model "
                "of Keras 3 does not keep: it asks for `training` in each call anew"
            )
        return call.args, kwargs

    def apply(self, operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        symbol = symbol_of(operation)
        if symbol is None:
            result = _functions_of_tensorflow.apply_carried(operation, args)
        else:
            result = _functions_of_tensorflow.apply(symbol, args, kwargs)
        name_operations(result, [args, kwargs], plain_name(operation.name))
        return result

    def input(self, tensor: Any, layer: Any) -> Any:
        if getattr(layer, "ragged", False):
            raise Unsupported(f"its input {layer.name} is ragged")
        return keras.Input(
            batch_shape=tuple(tensor.shape),
            dtype=tensor.dtype.name,
            sparse=layer.sparse,
            name=plain_name(layer.name),
        )
