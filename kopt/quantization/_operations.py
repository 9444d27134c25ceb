"""Operations that stand in a functional model by themselves, as `x + y` makes them.

They are called like layers and can be quantized like layers, but have no parts: the
model that they stand in holds their ranges, in a layer of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from kopt._keras.layer_tree import with_nested_layers
from kopt._keras.sublayers import add_sublayer, remove_sublayer
from kopt.quantization._layer_quantizer import LayerQuantizer

_HELD_AS = "operation_quantizers"


class OperationQuantizers(keras.Layer):
    """The quantizers of a model's bare operations: weights of the model like others."""

    def __init__(self, quantizers: Iterable[LayerQuantizer]) -> None:
        super().__init__(name=_HELD_AS)
        self.quantizers = list(quantizers)
        self.built = True


def bare_operations(model: keras.Layer) -> list[Any]:
    """The operations without a layer in a model and the models inside it."""
    return [one for graph in _graphs(model) for one in own_operations(graph)]


def own_operations(graph: Any) -> list[Any]:
    """The operations without a layer in one functional model."""
    return [one for one in graph.operations if not isinstance(one, keras.Layer)]


def hold_quantizers(graph: keras.Model) -> None:
    """Make the quantizers of a functional model's operations a part of the model."""
    quantizers = [
        one.quantizer for one in own_operations(graph) if hasattr(one, "quantizer")
    ]
    if quantizers:
        add_sublayer(graph, _HELD_AS, OperationQuantizers(quantizers))


def release_quantizers(model: keras.Layer) -> None:
    """Undo `hold_quantizers` in a model and the models inside it."""
    for graph in _graphs(model):
        if hasattr(graph, _HELD_AS):
            remove_sublayer(graph, _HELD_AS)


def _graphs(model: keras.Layer) -> list[keras.Model]:
    return [one for one in with_nested_layers(model) if is_graph(one)]


def is_graph(layer: keras.Layer) -> bool:
    """Whether a layer is a functional model."""
    return isinstance(layer, keras.Model) and hasattr(layer, "operations")
