"""Ranges, grids and fake-quantization, as functions on arrays.

A range `[low, high]` and a number of bits make a grid of equally spaced values, of
which zero is always one: TFLite stores a value as the number of its grid point.
Fake-quantization moves each value to the nearest grid point and stays in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

# A channel of zeros still needs a grid: the narrowest on which nothing divides by
# zero or by a denormal number. On it, as on every grid, zero stays zero.
NARROWEST = 1e-30

# A range in training is at most this many times as wide as that of a batch: of its
# 8 bits 5 are in use.
_IN_USE = 8.0

# Where a batch passes an end of the range by this factor, much of it may be cut off.
_PASSED = 1.5


class Grid(NamedTuple):
    """The values that a quantized tensor can take.

    Attributes:
        low: The smallest value, float.
        high: The largest value, float.
        scale: The distance between two neighbours.
        zero_point: The signed integer that stands for 0.0: -128 to 127 at 8 bits.
    """

    low: float
    high: float
    scale: float
    zero_point: int


@dataclass(frozen=True)
class AtMost:
    """How far a range may go that is measured: beyond, a value says nothing more.

    Attributes:
        low: At most 0.
        high: At least 0.
    """

    low: float
    high: float


def grid(low: float, high: float, bits: int = 8, *, narrow: bool = False) -> Grid:
    """The grid of a range, moved so that zero falls on a grid point.

    TensorFlow's fake-quantization kernels use this same grid: the scale is kept and
    the range is moved by less than one step ("nudged").

    Args:
        low: Lower end of the range, at most 0.
        high: Upper end of the range, at least 0 and greater than `low`.
        bits: Bits of the stored integer.
        narrow: Whether the lowest integer goes unused, which makes a symmetric range
            a symmetric grid.
    """
    # float32 throughout, as in the kernels, or zero points differ at a tie.
    lower, upper = np.float32(low), np.float32(high)
    first, last = np.float32(narrow), np.float32(2**bits - 1)
    scale = (upper - lower) / (last - first)
    zero = np.clip(np.floor(first - lower / scale + np.float32(0.5)), first, last)
    return Grid(
        low=float((first - zero) * scale),
        high=float((last - zero) * scale),
        scale=float(scale),
        zero_point=int(zero) - 2 ** (bits - 1),
    )


def enclosing_range(low: float, high: float) -> tuple[float, float]:
    """The smallest usable range around `[low, high]`: it holds zero and has a width.

    Of a tensor that is always zero nothing is known: its range is `[0, 1]`.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high - low > NARROWEST else (0.0, 1.0)


def moved_toward(old: Any, new: Any, rate: Any) -> Any:
    """One step of a moving average: `old + rate * (new - old)`."""
    return old + rate * (new - old)


def averaged(old: tuple[Any, Any], batch: tuple[Any, Any], rate: Any) -> list[Any]:
    """A range after a training step of a moving average; see `following`."""
    return [moved_toward(end, new, rate) for end, new in zip(old, batch, strict=True)]


def following(old: tuple[Any, Any], batch: tuple[Any, Any], rate: Any) -> list[Any]:
    """A range after a training step: moved toward that of the batch.

    A moving average takes hundreds of steps from a range that was measured on other
    statistics than those of training. Until then a range far too narrow would cut off
    most values and stop their gradients, one far too wide would round them to zero.
    So an end that the batch passes by half as much again moves there at once, and of
    the whole range the batch uses at least an eighth. At a rate of 0 it stands still.

    Args:
        old: The two ends, the lower at most 0, the upper at least 0.
        batch: Those of the batch.
        rate: Share of the batch in the moving average, a scalar.
    """
    moves = rate > 0
    low, high = (
        tf.where(
            tf.logical_and(moves, tf.abs(new) > _PASSED * tf.abs(end)),
            new,
            moved_toward(end, new, rate),
        )
        for end, new in zip(old, batch, strict=True)
    )
    widest = _IN_USE * (batch[1] - batch[0]) / (high - low)
    factor = tf.where(moves, tf.minimum(widest, 1.0), 1.0)
    return [factor * low, factor * high]


def fake_quantize(values: Any, low: Any, high: Any, bits: int = 8) -> Any:
    """Values rounded to the grid of `[low, high]`, in the float type they came in.

    Gradients pass unchanged inside the range and are zero outside it.

    Args:
        values: Tensor of any shape. Integers give a float32 result.
        low: Scalar, at most 0.
        high: Scalar, at least 0, greater than `low`.
        bits: Bits of the grid, 2 to 16.
    """
    values = tf.convert_to_tensor(values)
    # The kernel exists for float32 only.
    rounded = tf.quantization.fake_quant_with_min_max_vars(
        tf.cast(values, tf.float32), low, high, num_bits=bits
    )
    return tf.cast(rounded, values.dtype) if values.dtype.is_floating else rounded


def fake_quantize_learned(
    values: Any, low: Any, high: Any, rate: Any, bits: int = 8, parts: int = 1
) -> Any:
    """`fake_quantize` with the gradient of learned step sizes for the range's ends.

    A value inside the range moves the step `s = (high - low) / (2**bits - 1)` by its
    rounding error, `round(v / s) - v / s`; a value outside moves the end that it was
    cut to. Both are scaled by `1 / sqrt(values * levels)`, in units of steps, where the
    values of the whole batch count.

    Args:
        values: Tensor of any shape.
        low: Scalar, at most 0.
        high: Scalar, at least 0.
        rate: Scalar; where it is 0 the ends get no gradient.
        bits: Bits of the grid.
        parts: Into how many equal parts the batch was divided, one of which these are.
    """
    values = tf.convert_to_tensor(values)
    levels = 2**bits - 1
    moves = tf.cast(tf.convert_to_tensor(rate) > 0, tf.float32)

    @tf.custom_gradient
    def rounded(x: Any, lower: Any, upper: Any) -> tuple[Any, Any]:
        # The kernel needs a width, whatever training does to the ends.
        top = tf.maximum(upper, lower + 1e-6)
        y = tf.quantization.fake_quant_with_min_max_vars(x, lower, top, num_bits=bits)

        def gradients(upstream: Any) -> tuple[Any, Any, Any]:
            step = (top - lower) / levels
            below, above = x < lower, x > top
            inside = tf.logical_not(below | above)
            zero = tf.zeros_like(upstream)
            # dy/dstep inside, as a share for each end.
            error = tf.where(inside, upstream * (y - x) / step, zero) / levels
            count = parts * tf.cast(tf.size(x), tf.float32)
            scale = moves * levels**2 / tf.sqrt(count * levels)
            to_low = tf.reduce_sum(tf.where(below, upstream, zero) - error)
            to_high = tf.reduce_sum(tf.where(above, upstream, zero) + error)
            return tf.where(inside, upstream, zero), scale * to_low, scale * to_high

        return y, gradients

    return tf.cast(rounded(tf.cast(values, tf.float32), low, high), values.dtype)


def channel_bounds(weights: Any, channel_axes: Sequence[int]) -> Any:
    """The largest absolute value of each channel, a vector.

    Args:
        weights: Tensor.
        channel_axes: Axes that together number the channels; negative ones count
            from the end. None of them: one bound for the whole tensor.
    """
    columns, _ = _channels_last(tf.convert_to_tensor(weights), channel_axes)
    return tf.maximum(tf.reduce_max(tf.abs(columns), axis=0), NARROWEST)


def fake_quantize_weights(
    weights: Any, channel_axes: Sequence[int], bits: int = 8
) -> Any:
    """Weights rounded to a symmetric grid per channel; zero stays exactly zero.

    The grid of a channel runs from `-bound` to `bound`, its largest absolute value,
    in `2**bits - 2` steps. Gradients pass unchanged (straight-through).

    Args:
        weights: float32 tensor.
        channel_axes: See `channel_bounds`.
        bits: Bits of the grid, 2 to 16.

    Returns:
        A tensor like `weights`.
    """

    @tf.custom_gradient
    def rounded(values: Any) -> tuple[Any, Any]:
        columns, restore = _channels_last(values, channel_axes)
        bounds = channel_bounds(values, channel_axes)
        on_grid = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            columns, -bounds, bounds, num_bits=bits, narrow_range=True
        )
        # XLA's version of the kernel misses zero by a rounding error.
        exact = tf.where(values == 0, values, restore(on_grid))
        return exact, lambda gradient: gradient

    return rounded(tf.convert_to_tensor(weights))


def _channels_last(values: Any, channel_axes: Sequence[int]) -> tuple[Any, Any]:
    """A matrix with one column a channel, and the way back."""
    rank = len(values.shape)
    channels = [axis % rank for axis in channel_axes]
    order = [axis for axis in range(rank) if axis not in channels] + channels
    moved = tf.transpose(values, order)
    count = int(np.prod([values.shape[axis] for axis in channels], dtype=np.int64))

    def restore(columns: Any) -> Any:
        return tf.transpose(tf.reshape(columns, moved.shape), np.argsort(order))

    return tf.reshape(moved, (-1, count)), restore
