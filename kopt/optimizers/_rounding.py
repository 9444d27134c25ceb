"""Storing float32 results in variables of 16 bits without losing small steps.

A bfloat16 number has 8 significant bits and a float16 number 11: rounding to the
nearest drops every step smaller than about 1/256 or 1/2048 of the weight, and training
stands still. Zamirai et al., 2020,
"Revisiting BFloat16 Training", arXiv:2010.06192, describe both cures.
"""

from __future__ import annotations

import tensorflow as tf

#: How many of the 23 bits after the point of a float32 number a dtype leaves out.
_CUT_OFF = {"bfloat16": 16, "float16": 13}

#: Below the first of these, float16 numbers are multiples of the second.
_EVENLY_SPACED, _SPACE = 2.0**-14, 2.0**-24


def stochastic(values: tf.Tensor, seed: tf.Tensor, dtype: str) -> tf.Tensor:
    """Round float32 to 16 bits, up or down at random, right on average.

    Args:
        values: A float32 tensor.
        seed: Two integers; the same seed rounds the same way.
        dtype: `"bfloat16"` or `"float16"`.
    """
    cut = _CUT_OFF[dtype]
    drawn = _shifted(noise(values, seed), 32 - cut)
    raised = tf.bitcast(values, tf.uint32) + drawn
    kept = tf.bitwise.bitwise_and(raised, tf.constant(2**32 - 2**cut, tf.uint32))
    rounded = tf.bitcast(kept, tf.float32)
    if dtype == "float16":
        steps = tf.floor(values / _SPACE + tf.cast(drawn, tf.float32) * 2.0**-cut)
        rounded = tf.where(tf.abs(values) < _EVENLY_SPACED, steps * _SPACE, rounded)
    rounded = tf.cast(rounded, dtype)
    # Infinity and NaN have no neighbour to be rounded to, and the largest number none
    # above.
    return tf.where(tf.math.is_finite(rounded), rounded, tf.cast(values, dtype))


def noise(values: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A number of 32 bits for each value, as good as random and the same everywhere.

    TensorFlow's own generator takes XLA a microsecond a number on a processor; a hash
    of each value's place takes as long as the rest of an update.
    """
    places = tf.reshape(tf.range(tf.size(values)), tf.shape(values))
    first, second = tf.unstack(tf.cast(seed, tf.uint32))
    key = _hash(first + _hash(second))
    return _hash(tf.cast(places, tf.uint32) * tf.constant(0x9E3779B9, tf.uint32) + key)


def _hash(number: tf.Tensor) -> tf.Tensor:
    """Mix the bits of uint32 numbers: "lowbias32" of Wellons, 2018.

    https://nullprogram.com/blog/2018/07/31
    """
    number = tf.bitwise.bitwise_xor(number, _shifted(number, 16))
    number *= tf.constant(0x7FEB352D, tf.uint32)
    number = tf.bitwise.bitwise_xor(number, _shifted(number, 15))
    number *= tf.constant(0x846CA68B, tf.uint32)
    return tf.bitwise.bitwise_xor(number, _shifted(number, 16))


def _shifted(number: tf.Tensor, places: int) -> tf.Tensor:
    return tf.bitwise.right_shift(number, tf.constant(places, tf.uint32))


def compensated(values: tf.Tensor, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    """Round to the nearest and return what was cut off as well (Kahan)."""
    rounded = tf.cast(values, dtype)
    return rounded, tf.cast(values - tf.cast(rounded, values.dtype), dtype)
