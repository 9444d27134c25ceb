"""The grids that the joins of a model stand on."""

from __future__ import annotations

import keras

from kopt._registry import register
from kopt.quantization._layer_quantizer import OUTPUT, is_join
from kopt.quantization._quantized_layer import require_quantized
from kopt.quantization.ranges import Grid


@register("quantization")
def grids_of_joins(model: keras.Model) -> dict[str, Grid]:
    """The one grid that each join puts all that it takes in on.

    A join (`Concatenate`, `Maximum`, a stack) compares or copies integers, so that all
    of its inputs have to share the grid of its output.

    Args:
        model: A quantized model.

    Returns:
        A `Grid` (low, high, scale, zero_point) by the name of the layer, for those that
        are calibrated and whose result goes into no other join.

    Raises:
        ValueError: If the model is not quantized.

    Example:

    >>> inputs = keras.Input((4,))
    >>> parts = [keras.layers.Dense(2)(inputs), keras.layers.Dense(3)(inputs)]
    >>> model = keras.Model(inputs, keras.layers.Concatenate(name="both")(parts))
    >>> data = np.linspace(-1, 1, 40, dtype="float32").reshape(10, 4)
    >>> model = kopt.quantization.quantize_model(model, calibration_data=data)
    >>> list(kopt.quantization.grids_of_joins(model))
    ['both']
    """
    joins = [
        (layer.name, layer.quantizer.ranges[OUTPUT])
        for layer in require_quantized(model)
        if is_join(layer) and OUTPUT in layer.quantizer.ranges
    ]
    return {name: one.grid() for name, one in joins if one.calibrated}
