"""Layers computed in another way, equal in value, that converts to integer operations.

Each function here is the `compute` of a rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kopt._kernels.axes import channels_from_end
from kopt.quantization.ranges import NARROWEST


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


def channel_scale(layer: Any, inputs: Any) -> Any:
    """`inputs * gamma`, with nothing before it to go into."""
    return scale_channels(inputs, layer.gamma, ops.zeros_like(layer.gamma))


def partial_results(name: str) -> Callable[[Any, int], tuple[str, ...]]:
    """Names of the ranges between the steps of a merge of more than two tensors."""

    def names(layer: Any, inputs: int) -> tuple[str, ...]:
        return tuple(f"{name}_of_{number}" for number in range(2, inputs))

    return names


def pairwise(name: str) -> Callable[[Any, Any], Any]:
    """A merge of two at a time, as the runtime does it, each on a grid of its own."""

    def merge(layer: Any, inputs: Any) -> Any:
        total = inputs[0]
        for number, term in enumerate(inputs[1:], start=2):
            total = layer.float_class.call(layer, [total, term])
            total = layer.quantizer.rounded(f"{name}_of_{number}", total)
        return total

    return merge


def sums_of_average(layer: Any, inputs: int) -> tuple[str, ...]:
    """Names of the ranges of the sums that an average is made from."""
    return tuple(f"sum_of_{number}" for number in range(2, inputs + 1))


def average(layer: Any, inputs: Any) -> Any:
    """The sum of two at a time, over their number."""
    if len({len(one.shape) for one in inputs}) > 1:
        return layer.float_class.call(layer, inputs)
    total = inputs[0]
    for number, term in enumerate(inputs[1:], start=2):
        total = layer.quantizer.rounded(f"sum_of_{number}", total + term)
    return total * (1.0 / len(inputs))


def scaled_sum(layer: Any, inputs: Any) -> Any:
    """`first + scale * second`, with the product on a grid of its own."""
    scaled = layer.quantizer.rounded("scaled", inputs[1] * layer.scale)
    return inputs[0] + scaled


def separable_convolution(layer: Any, inputs: Any) -> Any:
    """A depthwise convolution and one of size 1, with the values between rounded."""
    flat = layer.rank == 1
    kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
    axis = 1 if layer.data_format == "channels_last" else 2
    if flat:
        # As an image of height 1: the converter puts a bias into 2D convolutions.
        inputs = ops.expand_dims(inputs, axis)
        kernels = [ops.expand_dims(kernel, 0) for kernel in kernels]
    between = ops.depthwise_conv(
        inputs,
        kernels[0],
        strides=max(layer.strides),
        padding=layer.padding,
        dilation_rate=layer.dilation_rate if not flat else (1, *layer.dilation_rate),
        data_format=layer.data_format,
    )
    outputs = ops.conv(
        layer.quantizer.rounded("depthwise", between),
        kernels[1],
        padding="valid",
        data_format=layer.data_format,
    )
    if layer.use_bias:
        last = layer.data_format == "channels_last"
        shape = (1, 1, 1, -1) if last else (1, -1, 1, 1)
        outputs = outputs + ops.reshape(layer.bias, shape)
    if layer.activation is not None:
        outputs = layer.activation(outputs)
    return ops.squeeze(outputs, axis) if flat else outputs


def flat_convolution(layer: Any, inputs: Any) -> Any:
    """A convolution over one axis, for a converter perhaps over an image of height 1.

    A bias of one number would stay a sum of floats behind it.
    """
    if not layer.quantizer.snapped or not layer.use_bias or layer.bias.shape != (1,):
        return layer.float_class.call(layer, inputs)
    first = layer.data_format == "channels_first"
    axis = 2 if first else 1
    padding = layer.padding
    if padding == "causal":
        size = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
        ends = [(0, 0), (0, 0), (0, 0)]
        ends[axis] = (size, 0)
        inputs, padding = ops.pad(inputs, ends), "valid"
    options: dict[str, Any] = {
        "padding": padding,
        "data_format": layer.data_format,
        "dilation_rate": (1, *layer.dilation_rate),
    }
    convolution, strides = ops.conv, (1, *layer.strides)
    if isinstance(layer, keras.layers.Conv1DTranspose):
        convolution = ops.conv_transpose
        added = layer.output_padding
        options["output_padding"] = added if added is None else (0, *added)
    elif isinstance(layer, keras.layers.DepthwiseConv1D):
        convolution, strides = ops.depthwise_conv, layer.strides * 2
    images, kernel = ops.expand_dims(inputs, axis), ops.expand_dims(layer.kernel, 0)
    outputs = convolution(images, kernel, strides=strides, **options) + layer.bias
    if layer.activation is not None:
        outputs = layer.activation(outputs)
    return ops.squeeze(outputs, axis)


def einsum_channels(layer: Any) -> tuple[int, ...]:
    """The axes of a kernel that number its channels; none if it is no matrix."""
    return () if _as_matrix(layer) is None else channels_from_end(layer, "kernel")


def einsum_dense(layer: Any, inputs: Any, training: bool | None = None) -> Any:
    """An `EinsumDense` as a product of matrices, which has a scale per channel."""
    kept = _as_matrix(layer)
    if kept is None:
        return layer.float_class.call(layer, inputs)
    outputs = matrix_product(inputs, layer.kernel, kept)
    if layer.bias is not None:
        outputs = outputs + layer.bias
    return layer.activation(outputs) if layer.activation is not None else outputs


def matrix_product(inputs: Any, kernel: Any, kept: int, bias: Any = None) -> Any:
    """Inputs times a kernel whose last `kept` axes are those of the outputs.

    A bias has these axes too; it is added before they are taken apart, where the
    runtime adds it in 32 bits.
    """
    shape, summed = ops.shape(inputs), len(kernel.shape) - kept
    units = math.prod(kernel.shape[summed:])
    matrix = ops.reshape(kernel, (-1, units))
    rows = ops.reshape(inputs, (-1, matrix.shape[0]))
    leading = tuple(shape[: len(shape) - summed])
    product = ops.matmul(rows, matrix)
    if bias is not None:
        product = product + ops.reshape(bias, (units,))
    return ops.reshape(product, (*leading, *kernel.shape[summed:]))


def _as_matrix(layer: Any) -> int | None:
    """How many axes of the kernel go into the outputs, if it multiplies as a matrix.

    That is when the inputs end in the axes that are summed over, the kernel begins
    with them, and the outputs end in the rest of the kernel.
    """
    left, output = layer.equation.replace(" ", "").replace("...", "").split("->")
    data, kernel = left.split(",")
    summed = [axis for axis in kernel if axis not in output]
    count = len(summed)
    kept = kernel[count:]
    fits = (
        kernel[:count] == data[len(data) - count :]
        and output == data[: len(data) - count] + kept
        and bool(kept)
    )
    return len(kept) if fits else None


def prelu(layer: Any, inputs: Any) -> Any:
    """`x` where it is positive, `alpha x` elsewhere, as a product and a sum.

    No delegate takes the runtime's own operation, which is slow.
    """
    rounded = layer.quantizer.rounded
    slope = rounded("slope", ops.convert_to_tensor(layer.alpha) - 1.0)
    if not layer.quantizer.snapped:
        return inputs + rounded("added", -slope * ops.relu(-inputs))
    if layer.quantizer.grids["slope"].high > 0.0:
        return layer.float_class.call(layer, inputs)
    # The same where no slope is above 1, with a ReLU that the product computes too.
    return inputs + rounded("added", ops.relu(inputs * slope))


def transposed_convolution(layer: Any, inputs: Any) -> Any:
    """A transposed convolution, for a converter always with a bias.

    Without one it would leave the operation and the ReLU behind it in float.
    """
    if layer.use_bias and layer.rank == 1:
        return flat_convolution(layer, inputs)
    if layer.use_bias or not layer.quantizer.snapped:
        return layer.float_class.call(layer, inputs)
    activation = layer.activation
    vars(layer)["activation"] = keras.activations.linear
    try:
        outputs = layer.float_class.call(layer, inputs)
    finally:
        vars(layer)["activation"] = activation
    # A bias of zeros would be taken away; in integers this one is zero.
    bias = ops.full((layer.filters,), NARROWEST)
    if layer.data_format == "channels_first":
        bias = ops.reshape(bias, (-1, *[1] * layer.rank))
    outputs = outputs + bias
    return outputs if activation is None else activation(outputs)


def quotient(operation: Any, dividend: Any, divisor: Any) -> Any:
    """A division by a number, as a product."""
    return dividend * (1.0 / divisor)


def divides_by_tensor(operation: Any, inputs: int) -> str:
    """Why a division cannot be computed as a product, or nothing."""
    return "the runtime has no integer division by a tensor" if inputs > 1 else ""
