"""How channels go through the layers that keep them apart."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from kopt._keras.graphs import CONCATENATIONS, GraphCall
from kopt.pruning._flow import Channels, Flow
from kopt.pruning._linear_rules import activated

Rules = Any


def same(flow: Flow, call: GraphCall, given: list[Channels]) -> list[Channels]:
    """Pooling and the like: what is constant stays what it is."""
    return given


def masking(flow: Flow, call: GraphCall, given: list[Channels]) -> None:
    """A channel that goes could be the one that kept a position from being masked."""
    return None


def padded(flow: Flow, call: GraphCall, given: list[Channels]) -> list[Channels]:
    (inputs,) = given
    # A constant with zeros around it is none, unless it is zero.
    return [Channels(inputs.slots, np.where(inputs.values == 0, 0.0, np.nan))]


def normalized(
    flow: Flow, call: GraphCall, given: list[Channels]
) -> list[Channels] | None:
    layer, (inputs,) = call.operation, given
    if layer.axis not in (-1, len(call.inputs[0].shape) - 1):
        return None
    flow.along(layer, layer.gamma, 0, inputs.slots, is_own=True)
    flow.along(layer, layer.beta, 0, inputs.slots, is_own=True)
    # Without a scale only a zero mean lets zeros through as zeros. In training, the
    # mean of a channel that is zero becomes zero by itself, later.
    follows = layer.gamma is None
    flow.along(layer, layer.moving_mean, 0, inputs.slots, is_own=follows)
    flow.along(layer, layer.moving_variance, 0, inputs.slots)
    count = len(inputs.slots)
    gamma = np.ones(count) if layer.gamma is None else flow.read(layer.gamma)
    beta = np.zeros(count) if layer.beta is None else flow.read(layer.beta)
    scale = gamma / np.sqrt(flow.read(layer.moving_variance) + layer.epsilon)
    values = (inputs.values - flow.read(layer.moving_mean)) * scale + beta
    return [Channels(inputs.slots, np.where(gamma == 0, beta, values))]


def parametric_relu(
    flow: Flow, call: GraphCall, given: list[Channels]
) -> list[Channels]:
    layer, (inputs,) = call.operation, given
    count = len(inputs.slots)
    if layer.alpha.shape[-1] == count:
        flow.along(layer, layer.alpha, -1, inputs.slots)
    slopes = flow.read(layer.alpha).reshape(-1, layer.alpha.shape[-1])
    even = (slopes == slopes[0]).all(0)
    below = np.where(even, slopes[0], np.nan) * inputs.values
    return [Channels(inputs.slots, np.where(inputs.values >= 0, inputs.values, below))]


def depthwise(flow: Flow, call: GraphCall, given: list[Channels]) -> list[Channels]:
    layer, (inputs,) = call.operation, given
    outputs = np.repeat(inputs.slots, layer.depth_multiplier)
    bias = layer.bias if layer.use_bias else None
    flow.along(layer, layer.kernel, -2, inputs.slots, is_own=True)
    flow.along(layer, bias, 0, outputs, is_own=True)
    kernel = flow.read(layer.kernel)
    kernel = kernel.reshape(-1, len(outputs))
    is_even = layer.padding == "valid" or set(layer.kernel_size) == {1}
    values = np.repeat(inputs.values, layer.depth_multiplier)
    if not is_even:
        values = np.where(values == 0, 0.0, np.nan)
    values = np.where((kernel == 0).all(0), 0.0, values * kernel.sum(0))
    values = values + (0.0 if bias is None else flow.read(bias))
    return [activated(flow, layer, Channels(outputs, values))]


def joined_end_to_end(
    flow: Flow, call: GraphCall, given: list[Channels]
) -> list[Channels] | None:
    rank = len(call.outputs[0].shape)
    if call.operation.axis % rank == rank - 1:
        return [Channels(*map(np.concatenate, zip(*given, strict=True)))]
    first = given[0]
    values = first.values
    for other in given[1:]:
        if len(other.slots) != len(first.slots):
            return None
        flow.slots.join(first.slots, other.slots)
        values = np.where(values == other.values, values, np.nan)
    return [Channels(first.slots, values)]


def flattened(
    flow: Flow, call: GraphCall, given: list[Channels]
) -> list[Channels] | None:
    (inputs,), places = given, call.inputs[0].shape[1:-1]
    if None in places:
        return None
    times = math.prod(places)
    return [Channels(np.tile(inputs.slots, times), np.tile(inputs.values, times))]


def reshaped(
    flow: Flow, call: GraphCall, given: list[Channels]
) -> list[Channels] | None:
    """Channels stay channels where each output channel is made of whole ones."""
    layer, (inputs,) = call.operation, given
    count = call.outputs[0].shape[-1]
    slots, values = inputs
    if count != len(slots):
        places = call.inputs[0].shape[1:-1]
        if None in places or None in call.outputs[0].shape[1:]:
            return None
        rows = np.tile(slots, math.prod(places)).reshape(-1, count)
        for row in rows[1:]:
            flow.slots.join(rows[0], row)
        all_values = np.tile(values, math.prod(places)).reshape(rows.shape)
        even = (all_values == all_values[0]).all(0)
        slots, values = rows[0], np.where(even, all_values[0], np.nan)
    flow.met(layer, "outputs", slots)
    flow.use(layer).resized = lambda count: {
        "target_shape": (*layer.target_shape[:-1], count(slots))
    }
    return [Channels(slots, values)]


def permuted(
    flow: Flow, call: GraphCall, given: list[Channels]
) -> list[Channels] | None:
    return given if call.operation.dims[-1] == len(call.operation.dims) else None


_SAME = (
    "AveragePooling1D AveragePooling2D AveragePooling3D Cropping1D Cropping2D "
    "Cropping3D Dropout GlobalAveragePooling1D GlobalAveragePooling2D "
    "GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D "
    "MaxPooling1D MaxPooling2D MaxPooling3D RepeatVector SpatialDropout1D "
    "SpatialDropout2D SpatialDropout3D UpSampling1D UpSampling2D UpSampling3D"
).split()

RULES: Rules = {
    **{getattr(keras.layers, name): same for name in _SAME},
    keras.layers.Masking: masking,
    keras.layers.ZeroPadding1D: padded,
    keras.layers.ZeroPadding2D: padded,
    keras.layers.ZeroPadding3D: padded,
    keras.layers.BatchNormalization: normalized,
    keras.layers.PReLU: parametric_relu,
    keras.layers.DepthwiseConv1D: depthwise,
    keras.layers.DepthwiseConv2D: depthwise,
    **dict.fromkeys(CONCATENATIONS, joined_end_to_end),
    keras.layers.Flatten: flattened,
    keras.layers.Reshape: reshaped,
    keras.layers.Permute: permuted,
}
