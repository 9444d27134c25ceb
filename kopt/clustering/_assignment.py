"""Which centroid each weight has: pure functions on tensors.

Between two neighbouring centroids lies one border. A search among the sorted borders
finds the nearest centroid of a weight, without a table of all distances, which would be
as many times larger than the weight as there are centroids.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any


def nearest(rows: Tensor, centroids: Tensor) -> Tensor:
    """The index of the centroid that is nearest to each number.

    Of two that are equally near it is the smaller one, of equal ones the first.

    Args:
        rows: Numbers of shape `(rows, numbers)`.
        centroids: Shape `(rows, count)`, in any order.

    Returns:
        int32 tensor like `rows`.
    """
    order = tf.argsort(centroids, stable=True)
    ascending = tf.gather(centroids, order, batch_dims=1)
    first_of_equals = tf.searchsorted(ascending, ascending)
    labels = tf.gather(order, first_of_equals, batch_dims=1)
    borders = (ascending[:, :-1] + ascending[:, 1:]) / 2
    return tf.gather(labels, tf.searchsorted(borders, rows), batch_dims=1)


def clustered(rows: Tensor, centroids: Tensor, *, average: bool = False) -> Tensor:
    """Each number replaced by its nearest centroid.

    The gradient of a number is passed to it unchanged (straight-through), and to its
    centroid as well: that gets the sum, or the mean, over its numbers.

    Args:
        rows: Numbers of shape `(rows, numbers)`.
        centroids: Shape `(rows, count)`.
        average: Whether centroids get the mean gradient.
    """

    @tf.custom_gradient
    def looked_up(rows: Tensor, centroids: Tensor) -> Tensor:
        shape = tf.shape(centroids)
        begins = tf.range(shape[0])[:, None] * shape[1]
        index = nearest(rows, centroids) + begins
        flat = tf.reshape(centroids, [-1])

        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            total = tf.math.unsorted_segment_sum(upstream, index, tf.size(flat))
            if average:
                ones = tf.ones_like(upstream)
                sizes = tf.math.unsorted_segment_sum(ones, index, tf.size(flat))
                total = tf.math.divide_no_nan(total, sizes)
            return upstream, tf.reshape(total, shape)

        return tf.gather(flat, index), gradient

    return looked_up(rows, centroids)
