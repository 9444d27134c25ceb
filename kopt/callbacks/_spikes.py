"""What is a spike in a series of numbers, as pure functions on float64 tensors.

The statistics of a series are a vector: how many values there were, and the mean and
variance of the recent ones. Older ones fade exponentially; as long as there are few,
all count alike, so that the first value has no weight of its own.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def is_spike(value: Any, statistics: Any, z: float, warmup: int) -> Any:
    """Whether a value lies more than `z` standard deviations above the recent mean."""
    count, mean, variance = tf.unstack(statistics)
    return (count >= warmup) & (value - mean > z * tf.sqrt(variance))


def following(value: Any, statistics: Any, decay: float) -> Any:
    """The statistics with one value more.

    The variance of a weighted mean that gains a value of weight w is
    (1 - w) (variance + w (value - mean)^2).
    """
    count, mean, variance = tf.unstack(statistics)
    weight = tf.maximum(1.0 / (count + 1.0), tf.constant(1.0 - decay, tf.float64))
    distance = value - mean
    variance = (1.0 - weight) * (variance + weight * tf.square(distance))
    return tf.stack([count + 1.0, mean + weight * distance, variance])
