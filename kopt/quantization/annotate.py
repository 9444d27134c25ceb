"""Choosing which layers are quantized, with the verbs of TF-MOT."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import keras

from kopt import _checks
from kopt._registry import register
from kopt.quantization._trace import leaf_layers
from kopt.quantization.int8 import Int8
from kopt.quantization.quantize import quantize_chosen

# The config of each annotated layer; None for one that goes by its rule.
_ANNOTATED: WeakKeyDictionary[keras.Layer, Any] = WeakKeyDictionary()

_GETTERS = (
    "get_weights_and_quantizers",
    "get_activations_and_quantizers",
    "get_output_quantizers",
)


@register("quantization")
def quantize_annotate_layer(
    layer: keras.Layer, quantize_config: Any = None
) -> keras.Layer:
    """Mark a layer to be quantized by `quantize_apply`.

    Nothing is changed yet, and the same layer comes back, not a wrapper.

    Args:
        layer: A layer, built or not.
        quantize_config: A `QuantizeConfig`, of kopt or of TF-MOT, in place of the
            rule of the layer's class.

    Raises:
        TypeError: If `layer` is no layer, or `quantize_config` no config.

    Example:

    >>> annotated = kopt.quantization.quantize_annotate_layer(keras.layers.Dense(4))
    >>> model = keras.Sequential([keras.Input((4,)), annotated, keras.layers.Dense(2)])
    >>> model = kopt.quantization.quantize_apply(model)
    >>> [type(layer).__name__ for layer in model.layers]
    ['QuantizedDense', 'Dense']
    """
    if not isinstance(layer, keras.Layer) or isinstance(layer, keras.Model):
        raise TypeError(
            "`layer` must be a keras.Layer; a model goes to `quantize_annotate_model`. "
            f"Received: layer={layer!r}."
        )
    if quantize_config is not None and not all(
        hasattr(quantize_config, name) for name in _GETTERS
    ):
        raise TypeError(
            f"`quantize_config` must have the methods {', '.join(_GETTERS)}. "
            f"Received: quantize_config={quantize_config!r}."
        )
    _ANNOTATED[layer] = quantize_config
    return layer


@register("quantization")
def quantize_annotate_model(model: keras.Model) -> keras.Model:
    """Mark all layers of a model that are not marked yet, with their own configs.

    Args:
        model: A built model. Unlike in TF-MOT it may be nested or subclassed.

    Returns:
        The same model.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> model = kopt.quantization.quantize_annotate_model(model)
    >>> type(kopt.quantization.quantize_apply(model).layers[0]).__name__
    'QuantizedDense'
    """
    for layer in leaf_layers(_checks.keras_model("model", model)):
        if isinstance(layer, keras.Layer):
            _ANNOTATED.setdefault(layer, None)
    return model


@register("quantization")
def quantize_apply(
    model: keras.Model, config: Int8 | None = None, calibration_data: Any = None
) -> keras.Model:
    """Quantize the layers of a model that are marked; the others stay float.

    Args:
        model: A built model with marked layers; it is changed in place.
        config: See `quantize_model`.
        calibration_data: See `quantize_model`.

    Returns:
        The same model.

    Raises:
        ValueError: If no layer is marked, and where `quantize_model` raises.

    Example:

    >>> marked = kopt.quantization.quantize_annotate_layer(keras.layers.Dense(4))
    >>> model = keras.Sequential([keras.Input((4,)), marked])
    >>> kopt.quantization.is_quantized(kopt.quantization.quantize_apply(model))
    True
    """
    layers = leaf_layers(_checks.keras_model("model", model))
    layers = [one for one in layers if isinstance(one, keras.Layer)]
    chosen = {id(one): _ANNOTATED[one] for one in layers if one in _ANNOTATED}
    if not chosen:
        raise ValueError(
            f"No layer of {model.name!r} is marked. Mark some by "
            "`quantize_annotate_layer(layer)`, all by "
            "`quantize_annotate_model(model)`, or use `quantize_model(model)`."
        )
    return quantize_chosen(model, config, calibration_data, chosen)
