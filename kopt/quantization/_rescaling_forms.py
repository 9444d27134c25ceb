"""Rescaling and normalization by constants, as operations on integers.

Each function here is a part of a rule.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from kopt._rescaling import channels_rescaled, rescaled
from kopt.quantization._integer_forms import scale_channels
from kopt.quantization._relevant_values import mask_factor

# A channel that has fewer steps of its input's grid has fewer than 4 bits.
_FEWEST_STEPS = 16


def between(layer: Any, inputs: int) -> tuple[str, ...]:
    """The range between product and sum, where both are with one number.

    For a few channels that is about 20 times as fast as a depthwise convolution.
    """
    return () if rescaled(layer) is None else ("scaled",)


def rescaling(layer: Any, inputs: Any) -> Any:
    """A `Rescaling` or `Normalization`: `inputs * scale + offset` with constants."""
    inputs = ops.cast(inputs, layer.compute_dtype)
    scale, offset = _constants(layer)
    if "scaled" in layer.quantizer.ranges:
        product = inputs * float(scale.flat[0])
        return layer.quantizer.rounded("scaled", product) + float(offset.flat[0])
    channels = (inputs.shape[-1],)
    scale, offset = (
        ops.broadcast_to(ops.cast(one.ravel(), layer.compute_dtype), channels)
        for one in (scale, offset)
    )
    return scale_channels(inputs, scale, offset)


def _constants(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(layer, keras.layers.Normalization):
        return channels_rescaled(layer)
    factor = mask_factor(layer.quantizer.output_limit, layer.scale, layer.offset)
    return np.asarray(layer.scale) * factor, np.asarray(layer.offset) * factor


def no_grid_for_channels(layer: Any, inputs: int) -> str:
    """Why a `Normalization` stays float: one grid would not hold what it takes.

    It is there to bring channels together that differ, in size or in how far they lie
    from zero. Of a channel that is narrow beside the rest a grid of 8 bits has no steps
    left.
    """
    mean = np.asarray(layer.mean)
    if any(size > 1 for size in mean.shape[:-1]):
        return "it normalizes other axes than the last"
    if layer.invert:
        return ""
    deviation = np.sqrt(np.asarray(layer.variance))
    highest, lowest = np.max(mean + 3 * deviation), np.min(mean - 3 * deviation)
    step = (max(0.0, highest) - min(0.0, lowest)) / 255
    narrow = 6 * np.min(deviation) < _FEWEST_STEPS * step
    return "its channels differ too much for one grid" if narrow else ""
