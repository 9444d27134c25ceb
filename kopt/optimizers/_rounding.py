"""Storing float32 results in variables of 16 bits without losing small steps.

A bfloat16 number has 8 significant bits: rounding to the nearest drops every step
smaller than 1/256 of the weight, and training stands still. Zamirai et al., 2020,
"Revisiting BFloat16 Training", arXiv:2010.06192, describe both cures.
"""

from __future__ import annotations

import tensorflow as tf


def stochastic(values: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Round float32 to bfloat16, up or down at random, right on average.

    Args:
        values: A float32 tensor.
        seed: Two integers; the same seed rounds the same way.
    """
    bits = tf.bitcast(values, tf.uint32)
    noise = tf.random.stateless_uniform(
        tf.shape(values), seed, minval=None, maxval=None, dtype=tf.uint32
    )
    kept = tf.bitwise.bitwise_and(
        bits + tf.bitwise.right_shift(noise, tf.constant(16, tf.uint32)),
        tf.constant(0xFFFF0000, tf.uint32),
    )
    rounded = tf.cast(tf.bitcast(kept, tf.float32), tf.bfloat16)
    # Infinity and NaN have no neighbour to be rounded to.
    return tf.where(tf.math.is_finite(values), rounded, tf.cast(values, tf.bfloat16))


def compensated(values: tf.Tensor, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    """Round to the nearest and return what was cut off as well (Kahan)."""
    rounded = tf.cast(values, dtype)
    return rounded, tf.cast(values - tf.cast(rounded, values.dtype), dtype)
