"""How much the steps of a training cut off at the ends of a range."""

from __future__ import annotations

import math
import warnings
from typing import Any

import keras
import tensorflow as tf

# More than this share is said.
_MUCH = 0.05
# Values of each sample that are looked at: all of them would cost a pass over memory.
_LOOKED_AT = 256


class Saturation:
    """The largest share of a tensor's values that a training step cut off.

    A compiled step cannot say anything; it notes the share in a variable, which is no
    weight of the model and is not saved. `warn` says it once, when Python next passes.
    """

    def __init__(self) -> None:
        # Replicas see parts of a batch, and cannot meet in a loop.
        with tf.init_scope():
            self._largest = tf.Variable(
                0.0,
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )
        self._noted = self._said = False

    def note(self, values: Any, low: Any, high: Any, bits: int) -> None:
        """Take note of the values of a training step, beside the range that they get.

        Args:
            values: Tensor of any shape.
            low: Scalar, the lower end.
            high: Scalar, the upper end.
            bits: Bits of the grid.
        """
        some = tf.cast(_some_of(values), tf.float32)
        half = (high - low) / (2 * (2**bits - 1))
        outside = tf.logical_or(some < low - half, some > high + half)
        share = tf.reduce_mean(tf.cast(outside, tf.float32))
        # Of few values, a few are soon a large part.
        share -= tf.math.rsqrt(tf.cast(tf.size(some), tf.float32))
        self._largest.assign(tf.maximum(self._largest, share))
        self._noted = True

    def warn(self, name: str, low: keras.Variable, high: keras.Variable) -> None:
        """Say once that much was cut off, if it was.

        Args:
            name: What the range belongs to.
            low: Its lower end.
            high: Its upper end.
        """
        if not self._noted or self._said:
            return
        with tf.init_scope():
            largest = float(tf.convert_to_tensor(self._largest))
            ends = f"[{float(low.numpy()):.4g}, {float(high.numpy()):.4g}]"
        if largest <= _MUCH:
            return
        self._said = True
        warnings.warn(
            f"In a training step more than {largest:.0%} of the values of {name!r} "
            f"were cut off at the ends of its range, which is {ends} now: they get no "
            "gradient. "
            "Let the range move (`freeze_ranges(model, frozen=False)`), "
            "calibrate it again with data like these (`calibrate`), or keep the layer "
            "float (`Int8(float_layers=...)`). `quantization_report(model, data, "
            "training=True)` shows all ranges.",
            stacklevel=3,
        )

    def forget(self) -> None:
        """The range is another one now."""
        self._largest.assign(0.0)
        self._noted = self._said = False


def _some_of(values: Any) -> Any:
    """Values spread over all of a tensor and all of its channels."""
    shape = values.shape[1:]
    if not shape.is_fully_defined() or shape.rank == 0:
        return values
    apart = max(shape.num_elements() // _LOOKED_AT, 1)
    # A distance that shares a factor with the channels would see the same few.
    while math.gcd(apart, shape[-1]) > 1:
        apart += 1
    return tf.reshape(values, [-1])[::apart]
