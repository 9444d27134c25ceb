"""Quantization in float64, written from its definition (Jacob et al. 2018, section 2).

A real number r is stored as an integer q: r = scale * (q - zero_point). Zero is stored
exactly, so the zero point is an integer.
"""

import numpy as np


def grid(low, high, bits=8, narrow=False):
    """Scale and zero point of a range, with integers from 0 (1 if narrow) on."""
    first, last = int(narrow), 2**bits - 1
    scale = (high - low) / (last - first)
    zero_point = int(np.clip(np.floor(first - low / scale + 0.5), first, last))
    return scale, zero_point


def integers(values, low, high, bits=8, narrow=False):
    """The stored integers, 0 to 2**bits - 1."""
    scale, zero_point = grid(low, high, bits, narrow)
    numbers = np.floor(np.asarray(values, "float64") / scale + zero_point + 0.5)
    return np.clip(numbers, int(narrow), 2**bits - 1)


def fake_quantize(values, low, high, bits=8, narrow=False):
    """What is read back after storing."""
    scale, zero_point = grid(low, high, bits, narrow)
    return scale * (integers(values, low, high, bits, narrow) - zero_point)


def distance_to_tie(values, low, high, bits=8, narrow=False):
    """How far each value is from the middle between two grid points, in steps."""
    scale, _ = grid(low, high, bits, narrow)
    steps = np.asarray(values, "float64") / scale
    return np.abs(steps - np.floor(steps) - 0.5)


def fake_quantize_channels(weights, bits=8):
    """Symmetric narrow grids, one for each index of the last axis."""
    weights = np.asarray(weights, "float64")
    result = np.zeros(weights.shape)
    for channel in range(weights.shape[-1]):
        bound = np.abs(weights[..., channel]).max()
        if bound:
            result[..., channel] = fake_quantize(
                weights[..., channel], -bound, bound, bits, narrow=True
            )
    return result


def debiased_average(values, momentum):
    """An exponential average that starts from nothing, corrected for the start."""
    weights = momentum ** np.arange(len(values) - 1, -1, -1, dtype="float64")
    return np.sum(weights * values) / np.sum(weights)


def integer_dense(inputs, kernel, bias, input_range, output_range):
    """A dense layer in integers: int8 weights, sums in int32, one rescaling."""
    input_scale, input_zero = grid(*input_range)
    output_scale, output_zero = grid(*output_range)
    kernel = np.asarray(kernel, "float64")
    kernel_scales = np.abs(kernel).max(axis=0) / 127
    weights = np.floor(kernel / kernel_scales + 0.5).astype("int64")
    numbers = integers(inputs, *input_range).astype("int64") - input_zero
    bias_scales = input_scale * kernel_scales
    sums = numbers @ weights + np.floor(bias / bias_scales + 0.5).astype("int64")
    stored = np.floor(sums * bias_scales / output_scale + 0.5) + output_zero
    return output_scale * (np.clip(stored, 0, 255) - output_zero)
