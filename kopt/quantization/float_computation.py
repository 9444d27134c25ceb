"""A quantized model, computed in float."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from kopt._registry import register
from kopt.quantization._compiled import functions_inlined
from kopt.quantization._quantized_layer import require_quantized


@register("quantization")
@contextmanager
def unrounded(model: keras.Model) -> Iterator[keras.Model]:
    """Inside, a quantized model computes in float, with the weights that it has.

    To see what rounding changes: call the model inside and outside. `predict` and `fit`
    keep the functions that they have compiled; call the model itself.

    Args:
        model: A quantized model.

    Yields:
        The model.

    Raises:
        ValueError: If the model is not quantized.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> data = np.linspace(-1, 1, 40, dtype="float32").reshape(10, 4)
    >>> exact = model(data)
    >>> model = kopt.quantization.quantize_model(model, calibration_data=data)
    >>> with kopt.quantization.unrounded(model):
    ...     bool(np.allclose(model(data), exact))
    True
    """
    layers = require_quantized(model)
    before = [layer.quantizer.active for layer in layers]
    try:
        for layer in layers:
            layer.quantizer.active = False
        with functions_inlined():
            yield model
    finally:
        for layer, active in zip(layers, before, strict=True):
            layer.quantizer.active = active
