"""Layers that multiply all values by one number and add another."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np


class Rescaled(NamedTuple):
    """`x * scale + offset`."""

    scale: float
    offset: float


def rescaled(layer: Any) -> Rescaled | None:
    """What a `Rescaling` or `Normalization` does to every value; None of others.

    A normalization counts whose channels all have the same mean and variance.
    """
    if _computes_as(layer, keras.layers.Rescaling):
        return _by_numbers(layer.scale, layer.offset)
    if _computes_as(layer, keras.layers.Normalization) and layer.built:
        return _by_numbers(*channels_rescaled(layer))
    return None


def channels_rescaled(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset of a `Normalization`, of each of its means and variances."""
    mean = np.asarray(layer.mean, "float64")
    deviation = np.sqrt(np.asarray(layer.variance, "float64"))
    deviation = np.maximum(deviation, keras.config.epsilon())
    if layer.invert:
        return deviation, mean
    return 1.0 / deviation, -mean / deviation


def _computes_as(layer: Any, kind: Any) -> bool:
    # A quantized layer has its own call, and the class that it was made from.
    found = getattr(type(layer), "float_class", type(layer))
    return isinstance(layer, kind) and found.call is kind.call


def _by_numbers(scale: Any, offset: Any) -> Rescaled | None:
    scales, offsets = np.unique(scale), np.unique(offset)
    if scales.size > 1 or offsets.size > 1:
        return None
    return Rescaled(float(scales[0]), float(offsets[0]))
