"""How channels go through the layers that mix them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kopt._keras.graphs import GraphCall
from kopt.pruning._flow import Channels, End, Flow, varying
from kopt.pruning._probing import applied

Rules = Any


def activated(flow: Flow, layer: keras.Layer, channels: Channels) -> Channels:
    """What a layer's own activation makes of its channels."""
    values = applied(layer.activation, channels.values)
    if values is None:
        reason = f"the activation of {layer.name!r}, which needs them all"
        flow.slots.pin(channels.slots, reason)
        return varying(channels.slots)
    return Channels(channels.slots, values)


def _mixed(
    flow: Flow,
    layer: Any,
    inputs: Channels,
    kernel: np.ndarray,
    outputs: np.ndarray,
    *,
    is_even: bool,
    bias: keras.Variable | None,
    can_fold: bool = True,
) -> Channels:
    """The outputs of a linear layer.

    Args:
        kernel: The weights, of shape `(positions, inputs, outputs)`.
        is_even: Whether each input's share of the output is the same at every place
            if that input is.
        can_fold: Whether such a share can be added to the bias.
    """
    used, shares = (kernel != 0).any(0), kernel.sum(0, dtype="float64")
    folds = shares if is_even and can_fold else None
    flow.ends.append(End(layer, inputs, used.any(1), folds, bias))
    flow.along(layer, bias, -1, outputs, is_own=True)
    known = (inputs.values == 0) | (is_even & ~np.isnan(inputs.values))
    offset = 0.0 if bias is None else flow.read(bias)
    values = np.where(known, inputs.values, 0) @ shares + offset
    values = np.where(used[~known].any(0), np.nan, values)
    return activated(flow, layer, Channels(outputs, values))


def _matrices(kernel: np.ndarray, inputs: int, outputs: int) -> np.ndarray:
    moved = np.moveaxis(kernel, (inputs, outputs), (-2, -1))
    return moved.reshape(-1, *moved.shape[-2:])


def dense(flow: Flow, call: GraphCall, given: list[Channels]) -> list[Channels]:
    layer, (inputs,) = call.operation, given
    outputs = flow.made(layer, "outputs", layer.units)
    flow.along(layer, layer.kernel, 0, inputs.slots)
    flow.along(layer, layer.kernel, 1, outputs, is_own=True, is_scored=True)
    flow.use(layer).resized = lambda count: {"units": count(outputs)}
    kernel = flow.read(layer.kernel)[None]
    bias = layer.bias if layer.use_bias else None
    found = _mixed(flow, layer, inputs, kernel, outputs, is_even=True, bias=bias)
    return [found]


def convolution(flow: Flow, call: GraphCall, given: list[Channels]) -> list[Channels]:
    layer, (inputs,) = call.operation, given
    outputs = flow.made(layer, "outputs", layer.filters)
    groups = layer.groups
    if groups > 1:
        # All groups have to keep as many channels.
        for slots in (inputs.slots, outputs):
            rows = slots.reshape(groups, -1)
            for row in rows[1:]:
                flow.slots.join(rows[0], row)
    per_group = len(inputs.slots) // groups
    flow.along(layer, layer.kernel, -2, inputs.slots[:per_group])
    flow.along(layer, layer.kernel, -1, outputs, is_own=True, is_scored=True)
    flow.use(layer).resized = lambda count: {"filters": count(outputs)}
    kernel = _matrices(flow.read(layer.kernel), -2, -1)
    if groups > 1:
        kernel = _block_diagonal(kernel, groups)
    found = _mixed(
        flow,
        layer,
        inputs,
        kernel,
        outputs,
        is_even=_is_even(layer),
        bias=layer.bias if layer.use_bias else None,
        can_fold=groups == 1,
    )
    return [found]


def transposed(flow: Flow, call: GraphCall, given: list[Channels]) -> list[Channels]:
    layer, (inputs,) = call.operation, given
    outputs = flow.made(layer, "outputs", layer.filters)
    flow.along(layer, layer.kernel, -1, inputs.slots)
    flow.along(layer, layer.kernel, -2, outputs, is_own=True, is_scored=True)
    flow.use(layer).resized = lambda count: {"filters": count(outputs)}
    kernel = _matrices(flow.read(layer.kernel), -1, -2)
    bias = layer.bias if layer.use_bias else None
    return [_mixed(flow, layer, inputs, kernel, outputs, is_even=False, bias=bias)]


def separable(flow: Flow, call: GraphCall, given: list[Channels]) -> list[Channels]:
    layer, (inputs,) = call.operation, given
    multiplier = layer.depth_multiplier
    outputs = flow.made(layer, "outputs", layer.filters)
    between = np.repeat(inputs.slots, multiplier)
    flow.along(layer, layer.depthwise_kernel, -2, inputs.slots)
    flow.along(layer, layer.pointwise_kernel, -2, between)
    own = layer.pointwise_kernel
    flow.along(layer, own, -1, outputs, is_own=True, is_scored=True)
    flow.use(layer).resized = lambda count: {"filters": count(outputs)}
    first = flow.read(layer.depthwise_kernel).reshape(-1, len(inputs.slots), multiplier)
    second = flow.read(own).reshape(len(inputs.slots), multiplier, -1)
    # One matrix for each place of the window and each intermediate channel.
    kernel = np.einsum("pim,imo->pmio", first, second).reshape(
        -1, len(inputs.slots), len(outputs)
    )
    bias = layer.bias if layer.use_bias else None
    is_even = _is_even(layer)
    return [_mixed(flow, layer, inputs, kernel, outputs, is_even=is_even, bias=bias)]


def einsum(flow: Flow, call: GraphCall, given: list[Channels]) -> list[Channels] | None:
    layer, (inputs,) = call.operation, given
    source, weight, output = layer.equation.replace("->", ",").split(",")
    last, bias = output[-1], layer.bias
    # The last axis has to be summed over, and another one come in its place.
    if source[-1] not in weight or source[-1] in output:
        return None
    if last not in weight or last in source:
        return None
    if bias is not None and last not in layer.bias_axes:
        return None
    axes = weight.index(source[-1]), weight.index(last)
    outputs = flow.made(layer, "outputs", layer.kernel.shape[axes[1]])
    flow.along(layer, layer.kernel, axes[0], inputs.slots)
    flow.along(layer, layer.kernel, axes[1], outputs, is_own=True, is_scored=True)
    flow.use(layer).resized = lambda count: {
        "output_shape": _with_last(layer.partial_output_shape, count(outputs))
    }
    kernel = _matrices(flow.read(layer.kernel), *axes)
    if bias is not None and len(bias.shape) > 1:
        return [_with_bias_by_place(flow, layer, inputs, kernel, outputs)]
    # Where other axes stay in the output, what one input adds differs along them.
    is_even = all(letter not in output for letter in weight if letter != last)
    options = {"is_even": is_even, "bias": bias, "can_fold": bias is not None}
    return [_mixed(flow, layer, inputs, kernel, outputs, **options)]


def _with_bias_by_place(
    flow: Flow, layer: Any, inputs: Channels, kernel: np.ndarray, outputs: np.ndarray
) -> Channels:
    """The outputs of a layer whose bias is another one at each place."""
    flow.along(layer, layer.bias, -1, outputs, is_own=True)
    used = (kernel != 0).any(0)
    flow.ends.append(End(layer, inputs, used.any(1)))
    bias = flow.read(layer.bias).reshape(-1, len(outputs))
    is_zero = ~used[inputs.values != 0].any(0) & (bias == 0).all(0)
    return activated(flow, layer, Channels(outputs, np.where(is_zero, 0.0, np.nan)))


def embedding(flow: Flow, call: GraphCall, given: list[Channels]) -> list[Channels]:
    layer, (inputs,) = call.operation, given
    flow.slots.pin(inputs.slots, f"the positions of {layer.name!r}")
    outputs = flow.made(layer, "outputs", layer.output_dim)
    table = layer.embeddings
    flow.along(layer, table, 1, outputs, is_own=True, is_scored=True)
    flow.use(layer).resized = lambda count: {"output_dim": count(outputs)}
    zero = (flow.read(table) == 0).all(0)
    return [Channels(outputs, np.where(zero, 0.0, np.nan))]


def recurrent(
    flow: Flow, call: GraphCall, given: list[Channels]
) -> list[Channels] | None:
    """Inputs of a recurrent layer may go; its units are tied to their own past."""
    if len(given) != 1:
        return None
    layer, (inputs,) = call.operation, given
    kernel = layer.cell.kernel
    flow.along(layer, kernel, 0, inputs.slots)
    flow.ends.append(End(layer, inputs, (flow.read(kernel) != 0).any(1)))
    reason = f"the units of the recurrent layer {layer.name!r}"
    return flow.unknown(call.outputs, reason)


def _is_even(layer: Any) -> bool:
    return layer.padding == "valid" or set(layer.kernel_size) == {1}


def _block_diagonal(kernel: np.ndarray, groups: int) -> np.ndarray:
    positions, inputs, outputs = kernel.shape
    width = outputs // groups
    whole = np.zeros((positions, inputs * groups, outputs), kernel.dtype)
    for group in range(groups):
        columns = slice(group * width, (group + 1) * width)
        rows = slice(group * inputs, (group + 1) * inputs)
        whole[:, rows, columns] = kernel[:, :, columns]
    return whole


def _with_last(shape: Any, size: int) -> Any:
    return size if isinstance(shape, int) else (*shape[:-1], size)


RULES: Rules = {
    keras.layers.Dense: dense,
    keras.layers.Conv1D: convolution,
    keras.layers.Conv2D: convolution,
    keras.layers.Conv3D: convolution,
    keras.layers.Conv1DTranspose: transposed,
    keras.layers.Conv2DTranspose: transposed,
    keras.layers.Conv3DTranspose: transposed,
    keras.layers.SeparableConv1D: separable,
    keras.layers.SeparableConv2D: separable,
    keras.layers.EinsumDense: einsum,
    keras.layers.Embedding: embedding,
    keras.layers.GRU: recurrent,
    keras.layers.LSTM: recurrent,
    keras.layers.SimpleRNN: recurrent,
}
