"""Weights moved onto their grids, as an export needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from kopt import _checks
from kopt._centroids import centroids_written
from kopt._registry import register
from kopt.quantization._activation_range import ActivationRange
from kopt.quantization._quantized_layer import (
    QuantizedLayer,
    quantized_layers,
    require_quantized,
)


@register("quantization")
def is_quantized(model: keras.Model) -> bool:
    """Whether any layer of a model, at any depth, is quantized by kopt.

    Args:
        model: A Keras model.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> kopt.quantization.is_quantized(model)
    False
    >>> model = kopt.quantization.quantize_model(model)
    >>> kopt.quantization.is_quantized(model)
    True
    """
    return bool(quantized_layers(_checks.keras_model("model", model, built=False)))


@register("quantization")
@contextmanager
def snapped(model: keras.Model) -> Iterator[keras.Model]:
    """Inside, the weights hold their grid values and only tensors are rounded.

    For a converter: it finds plain weights, which it puts on the same grid per
    channel, and the ranges of all tensors, moved to where their grids end, so that
    it comes to the same zero points. On leaving, every weight is back as it was, to
    the bit, also after an exception.

    A function that was traced before still rounds the weights itself; trace a fresh
    `tf.function` inside. Training inside is lost on leaving.

    Args:
        model: A quantized model.

    Yields:
        The model.

    Raises:
        ValueError: If the model is not quantized.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> data = np.linspace(-1, 1, 40, dtype="float32").reshape(10, 4)
    >>> model = kopt.quantization.quantize_model(model, calibration_data=data)
    >>> with kopt.quantization.snapped(model):
    ...     on_grid = model.layers[0].kernel.numpy()
    >>> scale = np.abs(on_grid).max(axis=0) / 127
    >>> bool(np.allclose(on_grid / scale, np.round(on_grid / scale), atol=1e-4))
    True
    """
    layers = [one for one in require_quantized(model) if not one.quantizer.snapped]
    with centroids_written(model):
        before = _snap(layers)
        try:
            yield model
        finally:
            for layer in layers:
                layer.quantizer.snapped = False
            for variable, value in before:
                variable.assign(value)


def _snap(layers: list[QuantizedLayer]) -> list[tuple[keras.Variable, object]]:
    """Put all weights on their grids; returns the variables with what they held."""
    snapped_values: dict[int, tuple[keras.Variable, object]] = {}
    for layer in layers:
        for grid in layer.quantizer.weight_grids:
            variable = grid.variable(layer)
            snapped_values[id(variable)] = (
                variable,
                layer.quantizer.on_grid(layer, grid),
            )
            if grid.bits < 8 and grid.quantizer is None:
                layer.quantizer.bounds[grid.attribute] = grid.bounds(layer)
        for role, one in _ranges_in_use(layer):
            ends = layer.quantizer.grids[role] = one.grid()
            snapped_values[id(one.low)] = (one.low, ends.low)
            snapped_values[id(one.high)] = (one.high, ends.high)
    before = [(variable, variable.numpy()) for variable, _ in snapped_values.values()]
    for variable, value in snapped_values.values():
        variable.assign(value)
    for layer in layers:
        layer.quantizer.snapped = True
    return before


def _ranges_in_use(layer: QuantizedLayer) -> list[tuple[str, ActivationRange]]:
    """The ranges of a layer by role, but those of a kind of call that no sample made.

    Where such a call is made after all, its range refuses.
    """
    found = [
        (role, one)
        for role, one in layer.quantizer.ranges.items()
        if isinstance(one, ActivationRange)
    ]
    if not any(one.calibrated for _, one in found if one.fixed is None):
        return found
    return [(role, one) for role, one in found if one.calibrated]
