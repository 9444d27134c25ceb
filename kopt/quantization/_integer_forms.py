"""Layers computed in another way, equal in value, that converts to integer operations.

Each function here is the `compute` of a rule.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def scale_channels(inputs: Any, scale: Any, offset: Any) -> Any:
    """`inputs * scale + offset`, a pair of numbers for each index of the last axis.

    As a depthwise convolution of size 1: one integer operation, where a product and
    a sum with constants would stay float.
    """
    shape = ops.shape(inputs)
    channels = inputs.shape[-1]
    images = inputs
    if len(shape) != 4:
        images = ops.reshape(inputs, (-1, 1, 1, channels))
    scaled = ops.depthwise_conv(
        images,
        ops.reshape(scale, (1, 1, channels, 1)),
        data_format="channels_last",
    )
    scaled = scaled + ops.reshape(offset, (channels,))
    return scaled if len(shape) == 4 else ops.reshape(scaled, shape)


def batch_normalization(layer: Any, inputs: Any, **kwargs: Any) -> Any:
    """A batch normalization with nothing before it to go into."""
    if kwargs.get("training") and layer.trainable:
        return layer.float_class.call(layer, inputs, **kwargs)
    scale = ops.rsqrt(layer.moving_variance + layer.epsilon)
    if layer.scale:
        scale = scale * layer.gamma
    offset = -layer.moving_mean * scale
    if layer.center:
        offset = offset + layer.beta
    return scale_channels(inputs, scale, offset)


def rescaling(layer: Any, inputs: Any) -> Any:
    """`inputs * scale + offset` with constants."""
    per_channel = (inputs.shape[-1],)
    return scale_channels(
        ops.cast(inputs, layer.compute_dtype),
        ops.broadcast_to(ops.cast(layer.scale, layer.compute_dtype), per_channel),
        ops.broadcast_to(ops.cast(layer.offset, layer.compute_dtype), per_channel),
    )


def partial_sums(layer: keras.Layer, inputs: int) -> tuple[str, ...]:
    """Names of the ranges between the additions of more than two tensors."""
    return tuple(f"sum_of_{number}" for number in range(2, inputs))


def add(layer: Any, inputs: Any) -> Any:
    """A sum of two at a time, as the runtime adds, each on a grid of its own."""
    total = inputs[0]
    for number, term in enumerate(inputs[1:], start=2):
        total = layer.float_class.call(layer, [total, term])
        total = layer.quantizer.rounded(f"sum_of_{number}", total)
    return total
