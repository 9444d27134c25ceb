"""The first centroids of a weight: pure functions from numbers to numbers.

TensorFlow Model Optimization's recipes, number for number where they do not draw.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from kopt.clustering.centroid_initialization import CentroidInitialization

# Steps of the cumulative distribution that "density" reads the centroids from, how far
# it reaches beyond the weights, and the share of weights below the first centroid.
_GRID, _MARGIN, _FIRST_SHARE = 30, 0.01, 0.01
# Always the same draw, the one of TensorFlow Model Optimization.
_KMEANS_SEED = 9


def initial_centroids(
    rows: np.ndarray,
    count: int,
    initialization: CentroidInitialization,
    *,
    around_zero: bool = False,
) -> np.ndarray:
    """Centroids for each row of numbers, in ascending order.

    Args:
        rows: float32 array of shape `(rows, numbers)`.
        count: How many centroids a row gets.
        initialization: How they are found.
        around_zero: Whether one of them is zero. The others are shared out between
            the negative and the positive numbers by how many there are of each.

    Returns:
        float32 array of shape `(rows, count)`. Where a row has fewer different numbers
        than centroids, some may be equal.
    """
    place = _PLACES[initialization]
    found = [
        _around_zero(row, count, place) if around_zero else place(row, count, _MARGIN)
        for row in rows
    ]
    return np.stack([_padded(np.sort(centroids), count) for centroids in found])


def _around_zero(numbers: np.ndarray, count: int, place: Place) -> np.ndarray:
    negative, positive = numbers[numbers < 0], numbers[numbers > 0]
    nonzero = negative.size + positive.size
    zero = np.zeros(1, "float32")
    if not nonzero:
        return zero
    # Halves to the even number.
    below = round((count - 1) * (negative.size / nonzero))
    sides = [zero]
    for side, wanted in ((negative, below), (positive, count - 1 - below)):
        if wanted and side.size:
            # The distribution of one side must not reach beyond zero.
            margin = min(_MARGIN, float(np.abs(side).min()) / 2)
            sides.append(place(side, wanted, margin))
    return np.concatenate(sides)


def _linear(numbers: np.ndarray, count: int, margin: float) -> np.ndarray:
    return tf.linspace(numbers.min(), numbers.max(), count).numpy()


def _random(numbers: np.ndarray, count: int, margin: float) -> np.ndarray:
    low, high = float(numbers.min()), float(numbers.max())
    return keras.ops.convert_to_numpy(
        keras.random.uniform((count,), low, high, dtype="float32")
    )


def _density_based(numbers: np.ndarray, count: int, margin: float) -> np.ndarray:
    """Points between which about as many numbers lie.

    The smallest points of a grid below which shares of 1 % to 100 % of the numbers
    lie, in even steps.
    """
    low, high = numbers.min() - np.float32(margin), numbers.max() + np.float32(margin)
    grid = tf.linspace(low, high, _GRID).numpy()
    at_most = np.searchsorted(np.sort(numbers), grid, side="right")
    shares = at_most.astype("float32") / np.float32(numbers.size)
    wanted = tf.linspace(_FIRST_SHARE, 1.0, count).numpy()
    return grid[np.minimum(np.searchsorted(shares, wanted, "right"), _GRID - 1)]


def _kmeans_plus_plus(numbers: np.ndarray, count: int, margin: float) -> np.ndarray:
    different = np.unique(numbers)
    if different.size <= count:
        return different
    drawn = tf.raw_ops.KmeansPlusPlusInitialization(
        points=numbers[:, None],
        num_to_sample=count,
        seed=_KMEANS_SEED,
        num_retries_per_sample=-1,
    )
    return drawn.numpy()[:, 0]


def _padded(centroids: np.ndarray, count: int) -> np.ndarray:
    return np.pad(centroids, (0, count - centroids.size), mode="edge")


Place = Callable[[np.ndarray, int, float], np.ndarray]

_PLACES: dict[CentroidInitialization, Place] = {
    CentroidInitialization.LINEAR: _linear,
    CentroidInitialization.RANDOM: _random,
    CentroidInitialization.DENSITY_BASED: _density_based,
    CentroidInitialization.KMEANS_PLUS_PLUS: _kmeans_plus_plus,
}
