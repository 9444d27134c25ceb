"""A layer becomes its own quantized version: same object, same weights, new class.

`Conv2D` turns into `QuantizedConv2D`, a subclass made here, which calls what
`Conv2D` calls, on weights and tensors that lie on their grids. Whatever holds the
layer (a sequential, nested or subclassed model, an optimizer, a constraint) goes on
holding it, and `isinstance(layer, keras.layers.Conv2D)` stays true.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from kopt.quantization._layer_quantizer import LayerQuantizer
from kopt.quantization._tracking import add_sublayer, remove_sublayer, sublayers
from kopt.quantization.rule import rule_for


class QuantizedLayer:
    """What every quantized layer has in common, whatever layer it was before.

    Saved as one class, `kopt>QuantizedLayer`, around the float layer's own config:
    a file loads wherever kopt and the float layer's class are known.
    """

    float_class: type[keras.Layer]
    quantizer: LayerQuantizer

    def get_config(self) -> dict[str, Any]:
        with float_again(self):
            layer = keras.saving.serialize_keras_object(self)
        return {
            "layer": layer,
            "quantizer": keras.saving.serialize_keras_object(self.quantizer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> keras.Layer:
        return attach(
            keras.saving.deserialize_keras_object(config["layer"]),
            keras.saving.deserialize_keras_object(config["quantizer"]),
        )

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        # Quantization changes neither shape nor type.
        with float_again(self):
            return self.compute_output_spec(*args, **kwargs)


def attach(layer: keras.Layer, quantizer: LayerQuantizer) -> keras.Layer:
    """Quantize a layer in place."""
    add_sublayer(layer, "quantizer", quantizer)
    layer.__class__ = quantized_class(type(layer))
    return layer


def detach(layer: keras.Layer) -> keras.Layer:
    """Undo `attach`: the layer with its float class and its weights as they are."""
    remove_sublayer(layer, "quantizer")
    layer.__class__ = layer.float_class
    return layer


@contextmanager
def float_again(layer: Any) -> Iterator[None]:
    """Inside, the layer is of its float class, for questions that this answers."""
    quantized = type(layer)
    layer.__class__ = quantized.float_class
    try:
        yield
    finally:
        layer.__class__ = quantized


@functools.cache
def quantized_class(float_class: type[keras.Layer]) -> type[keras.Layer]:
    """The quantized subclass of a layer class."""

    # Keras reads the signature of `call` to know what to pass to it.
    @functools.wraps(float_class.call)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _call_quantized(self, args, kwargs)

    quantized = type(float_class)(
        f"Quantized{float_class.__name__}",
        (QuantizedLayer, float_class),
        {
            "__doc__": f"A `{float_class.__name__}` quantized by kopt.",
            "__module__": __name__,
            "call": call,
            "float_class": float_class,
        },
    )
    _register(quantized)
    return quantized


def _register(quantized: type) -> None:
    # Each class is saved under the name of the common one, whose `from_config`
    # makes the right class again; so the common one has to answer to that name.
    enter = keras.saving.register_keras_serializable("kopt", "QuantizedLayer")
    enter(quantized)
    enter(QuantizedLayer)


_register(QuantizedLayer)


def _call_quantized(layer: Any, args: Any, kwargs: Any) -> Any:
    quantizer = layer.quantizer
    args, kwargs = quantizer.quantize_inputs(args, kwargs)
    if quantizer.preactivation_range is None:
        with quantizer.weights_on_grid(layer):
            outputs = _compute(layer, args, kwargs)
        return quantizer.quantize_outputs(outputs)
    with _without_activation(layer) as activation, quantizer.weights_on_grid(layer):
        outputs = _compute(layer, args, kwargs)
    outputs = activation(quantizer.quantize_preactivation(outputs))
    return quantizer.quantize_outputs(outputs)


def _compute(layer: Any, args: Any, kwargs: Any) -> Any:
    rule = rule_for(layer)
    if rule is not None and rule.compute is not None:
        return rule.compute(layer, *args, **kwargs)
    return layer.float_class.call(layer, *args, **kwargs)


@contextmanager
def _without_activation(layer: Any) -> Iterator[Any]:
    # Through the instance's dict: Keras would take note of an attribute set.
    attributes = vars(layer)
    activation = attributes["activation"]
    attributes["activation"] = keras.activations.linear
    try:
        yield activation
    finally:
        attributes["activation"] = activation


def quantized_layers(model: keras.Model) -> list[Any]:
    """The quantized layers of a model, at any depth."""
    return [one for one in sublayers(model) if isinstance(one, QuantizedLayer)]


def forget_compiled_functions(model: keras.Model) -> None:
    """Have a model, and models inside it, trace their steps anew.

    The steps that `fit`, `evaluate` and `predict` traced before hold the layers as
    they were then.
    """
    for one in [model, *sublayers(model)]:
        if isinstance(one, keras.Model):
            one.train_function = one.test_function = one.predict_function = None
