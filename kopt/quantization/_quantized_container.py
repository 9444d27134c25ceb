"""Models and layers written as classes, whose config says nothing of what is inside.

A functional model's config holds the configs of its layers, quantized ones included.
A subclassed model's or composite layer's does not: Keras makes it anew by its
constructor, which makes float layers. Such a container is swapped for a subclass
whose config holds the quantizers of everything inside, so that it loads complete.
"""

from __future__ import annotations

import functools
from typing import Any

import keras

from kopt._keras.layer_tree import nested_layers, own_layers, with_nested_layers
from kopt._keras.saved_whole import SavedWhole, refuse_h5
from kopt._keras.sublayers import is_added
from kopt.quantization._operations import hold_quantizers, is_graph, own_operations
from kopt.quantization._quantized_layer import (
    QuantizedLayer,
    attach,
    float_again,
    put_below,
    quantized_layers,
    register_as,
)


class QuantizedContainer(SavedWhole):
    """What every such container has in common. Saved as `kopt>QuantizedContainer`."""

    float_class: type[keras.Layer]

    def get_config(self) -> dict[str, Any]:
        refuse_h5(self)
        with float_again(self):
            layer = keras.saving.serialize_keras_object(self)
        # Keras compiles what it loads from the outer config.
        layer.pop("compile_config", None)
        return {
            "layer": layer,
            "quantizers": [
                [number, keras.saving.serialize_keras_object(inner.quantizer)]
                for number, inner in enumerate(_layers_as_made(self))
                if isinstance(inner, QuantizedLayer)
            ],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> keras.Layer:
        container = keras.saving.deserialize_keras_object(config["layer"])
        layers = _layers_as_made(container)
        for number, quantizer in config["quantizers"]:
            attach(layers[number], keras.saving.deserialize_keras_object(quantizer))
        return _as_container(container)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        with float_again(self):
            return self.compute_output_spec(*args, **kwargs)


class QuantizedGraph(QuantizedContainer):
    """A functional model with quantized operations; it holds their ranges.

    The operations are in the model's own config, quantizers included.
    """

    def get_config(self) -> dict[str, Any]:
        return {"layer": super().get_config()["layer"]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> keras.Layer:
        graph = keras.saving.deserialize_keras_object(config["layer"])
        hold_quantizers(graph)
        return _as_container(graph, QuantizedGraph)


def is_quantized_operation(operation: Any) -> bool:
    """Whether a bare operation is quantized."""
    return isinstance(operation, QuantizedLayer)


def keep_in_config(layer: keras.Layer) -> None:
    """See that the quantized layers inside a model or layer are saved with it."""
    inside = [
        one
        for one in own_layers(layer)
        if isinstance(one, QuantizedLayer) or quantized_layers(one)
    ]
    is_known = isinstance(layer, QuantizedContainer) or _config_names(layer).issuperset(
        one.name for one in inside
    )
    if not is_known:
        if isinstance(layer, QuantizedLayer):
            # A recurrent layer, whose constructor makes its cell.
            put_below(layer, _as_container)
        else:
            _as_container(layer)
        return
    for one in inside:
        keep_in_config(one)
    if isinstance(layer, (QuantizedContainer, QuantizedLayer)):
        return
    if is_graph(layer) and any(map(is_quantized_operation, own_operations(layer))):
        hold_quantizers(layer)
        _as_container(layer, QuantizedGraph)


def release(layer: keras.Layer) -> None:
    """Undo `keep_in_config`."""
    for one in with_nested_layers(layer):
        # Where another subclass was put on top, the container has to stay; with
        # nothing quantized inside it saves what the class would.
        if isinstance(one, QuantizedContainer) and "float_class" in vars(type(one)):
            one.__class__ = one.float_class


def _as_container(layer: keras.Layer, kind: Any = QuantizedContainer) -> keras.Layer:
    float_class: Any = type(layer)
    layer.__class__ = _container_class(float_class, kind)
    return layer


@functools.cache
def _container_class(float_class: Any, kind: Any) -> Any:
    container = type(float_class)(
        f"Quantized{float_class.__name__}",
        (kind, float_class),
        {
            "__doc__": f"A `{float_class.__name__}` with layers quantized by kopt.",
            "__module__": __name__,
            "float_class": float_class,
        },
    )
    register_as(kind.__name__, kind, container)
    return container


register_as("QuantizedContainer", QuantizedContainer, QuantizedContainer)
register_as("QuantizedGraph", QuantizedGraph, QuantizedGraph)


def _config_names(layer: keras.Layer) -> set[str]:
    """The names of all layers whose configs are in the config of a layer."""
    try:
        config = layer.get_config()
    except NotImplementedError:
        # Such a layer cannot be saved by config at all.
        config = None
    # A sequential model's config lists the layers, some perhaps without their names.
    if config is None or type(layer).get_config is keras.Sequential.get_config:
        return {one.name for one in own_layers(layer)}
    return {
        leaf
        for path, leaf in keras.tree.flatten_with_path(config)
        # A layer without a `get_config` of its own has its name beside its config.
        if path[-1] == "name" and len(path) > 1
    }


def _layers_as_made(container: keras.Layer) -> list[keras.Layer]:
    """The layers inside as the constructor makes them.

    Without what was added to them: quantizers, centroids.
    """
    added: set[int] = set()
    for layer in nested_layers(container):
        if is_added(layer):
            added.update(map(id, with_nested_layers(layer)))
    return [layer for layer in nested_layers(container) if id(layer) not in added]
