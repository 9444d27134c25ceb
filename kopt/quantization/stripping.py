"""The way back to a float model."""

from __future__ import annotations

import keras

from kopt import _checks
from kopt._keras.compiled import forget_compiled_functions
from kopt._registry import register
from kopt.quantization._operations import release_quantizers
from kopt.quantization._quantized_container import release
from kopt.quantization._quantized_layer import detach, quantized_layers


@register("quantization")
def strip_quantization(model: keras.Model) -> keras.Model:
    """Turn a quantized model back into the float model it was, with today's weights.

    Weights stay as training left them, not rounded; ranges are dropped. A model that
    is not quantized comes back as it is.

    Args:
        model: A model; it is changed in place.

    Returns:
        The same object.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> _ = kopt.quantization.quantize_model(model)
    >>> type(model.layers[0]).__name__
    'QuantizedDense'
    >>> type(kopt.quantization.strip_quantization(model).layers[0]).__name__
    'Dense'
    """
    layers = quantized_layers(_checks.keras_model("model", model))
    release_quantizers(model)
    for layer in layers:
        detach(layer)
    release(model)
    forget_compiled_functions(model)
    return model
