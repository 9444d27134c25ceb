"""Ranges that stop following the data."""

from __future__ import annotations

import keras

from kopt._registry import register
from kopt.quantization._quantized_layer import require_quantized


@register("quantization")
def freeze_ranges(model: keras.Model, *, frozen: bool = True) -> keras.Model:
    """Have the ranges of a quantized model stand still in training, or move again.

    Late in training, ranges that no longer move let the weights settle on them. The
    switch is a variable: it takes effect in the middle of `fit`, from a callback,
    without a new trace, and is saved with the weights.

    Args:
        model: A quantized model; it is changed in place.
        frozen: `False` lets ranges follow the data again.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is not quantized.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> data = np.ones((8, 4), "float32")
    >>> model = kopt.quantization.quantize_model(model, calibration_data=data)
    >>> model = kopt.quantization.freeze_ranges(model)
    >>> _ = model(100 * data, training=True)
    >>> float(model.layers[0].quantizer.ranges["input_0"].high.numpy())
    1.0
    """
    for layer in require_quantized(model):
        for one in layer.quantizer.ranges.values():
            one.set_rate(0.0 if frozen else one.rate)
    return model
