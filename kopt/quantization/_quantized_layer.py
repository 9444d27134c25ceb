"""A layer becomes its own quantized version: same object, same weights, new class.

`Conv2D` turns into `QuantizedConv2D`, a subclass made here, which calls what
`Conv2D` calls, on weights and tensors that lie on their grids. Whatever holds the
layer (a sequential, nested or subclassed model, an optimizer, a constraint) goes on
holding it, and `isinstance(layer, keras.layers.Conv2D)` stays true.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import keras

from kopt import _checks
from kopt._keras.caught_losses import add_again
from kopt._keras.layer_tree import nested_layers
from kopt._keras.sublayers import add_sublayer, remove_sublayer
from kopt._keras.swapped_variables import SwappedVariables
from kopt.quantization._activations import activation_of
from kopt.quantization._layer_quantizer import OUTPUT, PREACTIVATION, LayerQuantizer
from kopt.quantization._operations import bare_operations
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
    float_class: Any = type(layer)
    layer.__class__ = _quantized_class(float_class)
    if isinstance(layer, keras.Layer):
        add_sublayer(layer, "quantizer", quantizer)
    else:
        # An operation has no parts; the model around it holds its ranges.
        layer.quantizer = quantizer
    return layer


def detach(layer: keras.Layer) -> keras.Layer:
    """Undo `attach`: the layer with its float class and its weights as they are."""
    if isinstance(layer, keras.Layer):
        remove_sublayer(layer, "quantizer")
    else:
        del layer.quantizer
    layer.__class__ = layer.float_class
    return layer


def quantized_layers(model: keras.Layer) -> list[Any]:
    """The quantized layers and bare operations of a model, at any depth."""
    return [
        one
        for one in [*nested_layers(model), *bare_operations(model)]
        if isinstance(one, QuantizedLayer)
    ]


def require_quantized(model: keras.Model) -> list[Any]:
    """`quantized_layers`, or an error if the model has none."""
    layers = quantized_layers(_checks.keras_model("model", model))
    if not layers:
        raise ValueError(
            f"{model.name!r} is not quantized. Use "
            "`kopt.quantization.quantize_model(model)` first."
        )
    return layers


def put_below(layer: Any, change: Callable[[Any], Any]) -> None:
    """Change the class that a quantized layer is made from."""
    layer.__class__ = layer.float_class
    change(layer)
    # mypy takes the hash of a class for that of its instances.
    kind: Any = type(layer)
    layer.__class__ = _quantized_class(kind)


@contextmanager
def weights_rounded_once(layers: Iterable[Any]) -> Iterator[None]:
    """Inside, weights stand still: they are rounded once, not at each call of a layer.

    A recurrent layer calls its cell at each step.
    """
    changed = [
        layer
        for layer in layers
        if all(grid.quantizer is None for grid in layer.quantizer.weight_grids)
    ]
    for layer in changed:
        # Past Keras, which would take the variables for the quantizer's own.
        rounded = layer.quantizer.weights_on_grid(layer)
        vars(layer.quantizer)["rounded_weights"] = rounded
    try:
        yield
    finally:
        for layer in changed:
            vars(layer.quantizer)["rounded_weights"] = None


@contextmanager
def float_again(layer: Any) -> Iterator[None]:
    """Inside, the layer is of its float class, for questions that this answers."""
    quantized = type(layer)
    layer.__class__ = quantized.float_class
    try:
        yield
    finally:
        layer.__class__ = quantized


def register_as(name: str, common: type, derived: type) -> None:
    """Have objects of a class that was made at run time saved as its common class.

    Keras notes for each class the name to save it under, and for each name the class
    to load. The common class takes the name last, so it is the one that loads, and
    its `from_config` makes the derived class anew.
    """
    keras.saving.register_keras_serializable("kopt", name)(derived)
    keras.saving.register_keras_serializable("kopt", name)(common)


@functools.cache
def _quantized_class(float_class: Any) -> Any:
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
    register_as("QuantizedLayer", QuantizedLayer, quantized)
    return quantized


register_as("QuantizedLayer", QuantizedLayer, QuantizedLayer)


def _call_quantized(layer: Any, args: Any, kwargs: Any) -> Any:
    quantizer = layer.quantizer
    if not quantizer.active:
        return layer.float_class.call(layer, *args, **kwargs)
    if quantizer.statistics_frozen:
        kwargs = {**kwargs, "training": False}
    args, kwargs = quantizer.quantize_inputs(layer, args, kwargs)
    weights = quantizer.weights_on_grid(layer)
    activation = _activation(layer)
    if PREACTIVATION in quantizer.ranges:
        with _stand_ins(layer, weights, activation=keras.activations.linear):
            outputs = _compute(layer, args, kwargs)
        outputs = activation(quantizer.rounded(PREACTIVATION, outputs))
        return quantizer.rounded(OUTPUT, outputs)
    replaced = {"activation": activation} if "activation" in vars(layer) else {}
    with _stand_ins(layer, weights, **replaced):
        outputs = _compute(layer, args, kwargs)
    return quantizer.rounded(OUTPUT, outputs)


def _activation(layer: Any) -> Any:
    """The layer's own activation, in the form that the runtime has, if it has one."""
    form = activation_of(layer).form
    if form is None:
        return getattr(layer, "activation", None)
    return functools.partial(form, quantizer=layer.quantizer)


def _compute(layer: Any, args: Any, kwargs: Any) -> Any:
    if not isinstance(layer, keras.Layer) and activation_of(layer).form is not None:
        # An operation is the activation, where a layer has it as an attribute.
        return _activation(layer)(*args, **kwargs)
    if not layer.quantizer.rewritten:
        return layer.float_class.call(layer, *args, **kwargs)
    rule = rule_for(layer)
    if rule is None or rule.compute is None:
        raise RuntimeError(
            f"Layer {layer.name!r} was quantized by a rule with `compute`, which "
            f"{layer.float_class.__name__} has no longer. Register it again with "
            "`kopt.quantization.register_quantize_rule`."
        )
    return rule.compute(layer, *args, **kwargs)


@contextmanager
def _stand_ins(
    layer: Any, weights: list[tuple[Any, Any]], **attributes: Any
) -> Iterator[None]:
    """Inside, the layer computes with other weights and attributes than its own.

    A variable is replaced for all who read it. A wrapper may have put a tensor in the
    place of a variable (a kernel with connections dropped): that place is taken over.
    """
    for name, own in vars(layer).items():
        for weight, stand_in in weights:
            if own is weight and not isinstance(own, keras.Variable):
                attributes[name] = stand_in
    before = {name: vars(layer)[name] for name in attributes}
    variables = [pair for pair in weights if isinstance(pair[0], keras.Variable)]
    # No scope around a loop: what is assigned inside of it has to be assigned there.
    with SwappedVariables(variables) if variables else nullcontext() as scope:
        # Past the layer's `__setattr__`, which would keep track of it. Ended before
        # the scope is: that assigns to variables, where replicas take turns.
        vars(layer).update(attributes)
        try:
            yield
        finally:
            vars(layer).update(before)
    if scope is not None:
        add_again(layer, scope.losses)
