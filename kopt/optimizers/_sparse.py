"""Row-sparse gradients, as an embedding gives them (`tf.IndexedSlices`)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def is_sparse(gradient: Any) -> bool:
    return isinstance(gradient, tf.IndexedSlices)


def sum_duplicates(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """The same gradient with each row index once.

    A batch that holds a token twice has two slices for its row; the gradient is their
    sum, and only the sum may be squared.
    """
    indices, positions = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(
        gradient.values, positions, tf.shape(indices)[0]
    )
    return tf.IndexedSlices(values, indices, gradient.dense_shape)


def nonzero_rows(gradient: tf.Tensor) -> tf.IndexedSlices:
    """The rows of a dense gradient that hold anything."""
    axes = list(range(1, len(gradient.shape)))
    indices = tf.where(tf.reduce_any(gradient != 0, axis=axes))[:, 0]
    return tf.IndexedSlices(
        tf.gather(gradient, indices), indices, tf.shape(gradient, tf.int64)
    )


def map_values(function: Any, gradient: Any) -> Any:
    """Apply an elementwise function to a gradient of either kind."""
    if is_sparse(gradient):
        return tf.IndexedSlices(
            function(gradient.values), gradient.indices, gradient.dense_shape
        )
    return function(gradient)
