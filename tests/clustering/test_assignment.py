"""Which centroid a number has, and what gradients both get."""

import numpy as np
import pytest
import tensorflow as tf

from kopt.clustering._assignment import clustered, nearest
from tests.reference import clustering as reference


def numbers(rows=2, count=400, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, count)).astype("float32")


def gradients(rows, centroids, upstream, **arguments):
    rows, centroids = map(tf.convert_to_tensor, (rows, centroids))
    with tf.GradientTape() as tape:
        tape.watch([rows, centroids])
        result = clustered(rows, centroids, **arguments)
    return tape.gradient(result, [rows, centroids], upstream)


@pytest.mark.parametrize("count", [2, 3, 16, 64])
def test_the_nearest_centroid_is_that_of_the_table_of_distances(count):
    rows, centroids = numbers(), numbers(count=count, seed=1)
    found = nearest(rows, centroids).numpy()
    for row, own, index in zip(rows, centroids, found, strict=True):
        np.testing.assert_array_equal(index, reference.assignment(row, own))


def test_of_equal_centroids_it_is_the_first():
    centroids = np.array([[2.0, -1.0, 2.0, -1.0, 5.0]], "float32")
    found = nearest(np.array([[-3, -1, 1.9, 2, 2.1, 9]], "float32"), centroids)
    assert found.numpy().tolist() == [[1, 1, 0, 0, 0, 4]]


def test_half_way_between_two_it_is_the_smaller():
    centroids = np.array([[3.0, 1.0, -1.0]], "float32")
    found = nearest(np.array([[0.0, 2.0]], "float32"), centroids)
    assert found.numpy().tolist() == [[2, 1]]


def test_every_row_has_centroids_of_its_own():
    rows = np.array([[0.1, 0.9], [0.1, 0.9]], "float32")
    centroids = np.array([[0.0, 1.0], [5.0, 7.0]], "float32")
    assert clustered(rows, centroids).numpy().tolist() == [[0, 1], [5, 5]]


@pytest.mark.parametrize("average", [False, True])
def test_centroids_get_the_gradients_of_their_numbers(average):
    rows, centroids, upstream = numbers(), numbers(count=7, seed=1), numbers(seed=2)
    centroids[0, 3] = 50.0  # no number is near
    _, found = gradients(rows, centroids, upstream, average=average)
    for at in range(2):
        index = reference.assignment(rows[at], centroids[at])
        expected = reference.centroid_gradient(upstream[at], index, 7, average)
        np.testing.assert_allclose(found[at], expected, rtol=1e-5, atol=1e-6)
    assert found[0, 3] == 0


def test_numbers_get_their_gradients_unchanged():
    upstream = numbers(seed=2)
    found, _ = gradients(numbers(), numbers(count=7, seed=1), upstream)
    np.testing.assert_array_equal(found, upstream)


def test_xla_gives_the_same():
    rows, centroids, upstream = numbers(), numbers(count=9, seed=1), numbers(seed=2)
    compiled = tf.function(gradients, jit_compile=True, autograph=False)
    expected = gradients(rows, centroids, upstream)
    for one, other in zip(compiled(rows, centroids, upstream), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_nothing_as_large_as_all_distances_is_ever_made():
    rows, centroids, upstream = numbers(1, 5000), numbers(1, 64), numbers(1, 5000)
    traced = tf.function(gradients).get_concrete_function(rows, centroids, upstream)
    operations = traced.graph.get_operations()
    assert {"LowerBound", "UnsortedSegmentSum"} <= {one.type for one in operations}
    shapes = [output.shape for one in operations for output in one.outputs]
    assert max(shape.num_elements() for shape in shapes if shape.rank) == 5000
