"""How much the last step of a training cut off at the ends of a range."""

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
# Share of a range's width by which a value has to be outside: many values of a swish
# are at its minimum, a step or two beyond the end of a range that is about right.
_FAR = 1 / 32


class Saturation:
    """The share of a tensor's values that the last training step cut off.

    A compiled step cannot say anything; it notes the share in a variable, which is no
    weight of the model and is not saved. `warn` says it once, when Python next passes.
    Steps before the last do not count: a range that moves was behind its data for some
    of them, and has caught up.
    """

    def __init__(self) -> None:
        # Replicas see parts of a batch, and cannot meet in a loop.
        with tf.init_scope():
            self._share = tf.Variable(
                0.0,
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )
        self._noted = self._said = False

    def note(self, values: Any, low: Any, high: Any) -> None:
        """Take note of the values of a training step, beside the range that they get.

        Args:
            values: Tensor of any shape.
            low: Scalar, the lower end.
            high: Scalar, the upper end.
        """
        some = tf.cast(_some_of(values), tf.float32)
        far = (high - low) * _FAR
        outside = tf.logical_or(some < low - far, some > high + far)
        share = tf.reduce_mean(tf.cast(outside, tf.float32))
        # Of few values, a few are soon a large part.
        share -= tf.math.rsqrt(tf.cast(tf.size(some), tf.float32))
        self._share.assign(share)
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
            share = float(tf.convert_to_tensor(self._share))
            ends = f"[{float(low.numpy()):.4g}, {float(high.numpy()):.4g}]"
        if share <= _MUCH:
            return
        self._said = True
        warnings.warn(
            f"In the last training step more than {share:.0%} of the values of "
            f"{name!r} were cut off at the ends of its range, which is {ends} now: "
            "they get no gradient. "
            "Let the range move (`freeze_ranges(model, frozen=False)`), "
            "calibrate it again with data like these (`calibrate`), or keep the layer "
            "float (`Int8(float_layers=...)`). `quantization_report(model, data, "
            "training=True)` shows all ranges.",
            stacklevel=3,
        )

    def forget(self) -> None:
        """The range is another one now."""
        self._share.assign(0.0)
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
