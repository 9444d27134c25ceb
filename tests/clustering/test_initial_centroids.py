"""Where the first centroids lie."""

import keras
import numpy as np
import pytest

from kopt.clustering import CentroidInitialization
from kopt.clustering._initial_centroids import initial_centroids
from kopt.clustering.centroid_initialization import checked_initialization
from tests.reference import clustering as reference

LINEAR, RANDOM, DENSITY_BASED, KMEANS_PLUS_PLUS = CentroidInitialization
ALL = list(CentroidInitialization)


def numbers(count=500, seed=0):
    return np.random.default_rng(seed).normal(0.1, 0.5, count).astype("float32")


def centroids(row, count, method, **arguments):
    return initial_centroids(np.asarray(row)[None], count, method, **arguments)[0]


def test_linear_ones_are_even_from_the_smallest_to_the_largest():
    row = numbers()
    expected = np.linspace(row.min(), row.max(), 9)
    np.testing.assert_allclose(centroids(row, 9, LINEAR), expected, atol=1e-6)


def test_random_ones_are_between_the_smallest_and_the_largest_and_follow_the_seed():
    row = numbers()
    found = [centroids(row, 9, RANDOM) for _ in range(2)]
    assert (row.min() <= found[0]).all() and (found[0] <= row.max()).all()
    assert (found[0] != found[1]).any()
    keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(centroids(row, 9, RANDOM), found[0])


# Of a hundred numbers one is the share of 1 % that the first centroid is to exceed.
@pytest.mark.parametrize("size", [100, 500])
def test_density_based_ones_are_where_the_distribution_exceeds_even_shares(size):
    row = numbers(size)
    expected = reference.density_based(row, 9)
    np.testing.assert_allclose(centroids(row, 9, DENSITY_BASED), expected, atol=1e-6)


def test_those_of_k_means_are_different_numbers_of_the_weight():
    row = numbers()
    found = centroids(row, 9, KMEANS_PLUS_PLUS)
    assert np.unique(found).size == 9
    assert np.isin(found, row).all()


def test_those_of_k_means_are_far_from_each_other():
    row = np.repeat(np.arange(6, dtype="float32"), 40) + 0.001 * numbers(240)
    found = np.round(centroids(row, 6, KMEANS_PLUS_PLUS)).tolist()
    assert found == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("method", ALL)
def test_they_ascend(method):
    for around_zero in (False, True):
        found = centroids(numbers(), 9, method, around_zero=around_zero)
        assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("method", ALL)
def test_one_is_zero_where_sparsity_is_kept(method):
    row = np.where(numbers(seed=1) > 0.3, 0, numbers())
    found = centroids(row, 8, method, around_zero=True)
    assert found.size == 8
    assert (found == 0).sum() == 1
    # 7 others, shared out by the numbers of either sign.
    negative, positive = (row < 0).sum(), (row > 0).sum()
    assert (found < 0).sum() == round(7 * negative / (negative + positive))


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("around_zero", [False, True])
def test_a_weight_of_one_value_is_what_its_centroids_are(method, around_zero):
    for value in (0.0, 0.25):
        row = np.full(50, value, "float32")
        found = centroids(row, 4, method, around_zero=around_zero)
        assert found.size == 4
        # "Density" reaches a little beyond the weights.
        near = np.abs(found - value) <= 0.011
        assert (near | (found == 0) & around_zero).all()


def test_a_weight_of_few_values_gets_all_of_them_from_k_means():
    row = np.tile(np.array([0.5, -0.25, 2.0], "float32"), 30)
    found = centroids(row, 6, KMEANS_PLUS_PLUS)
    assert found.tolist() == [-0.25, 0.5, 2.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("name", ["LINEAR", "linear", "CentroidInitialization.LINEAR"])
def test_names_are_taken_however_their_case_is_written(name):
    assert checked_initialization("init", name) is LINEAR


@pytest.mark.parametrize("wrong", ["quadratic", None, 3])
def test_what_is_no_initialization_is_refused_with_those_there_are(wrong):
    with pytest.raises(ValueError, match=r"LINEAR, RANDOM, .*Received: init="):
        checked_initialization("init", wrong)
