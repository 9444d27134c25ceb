"""Against scikit-learn's process, numerical slopes and integrals."""

import numpy as np
import pytest
from scipy import integrate, optimize, stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from kopt.tuning._samplers import gaussian_process
from kopt.tuning._samplers.encoded import differences
from kopt.tuning._samplers.gaussian_process import (
    GaussianProcess,
    log_expected_improvement,
    normal_scores,
)

NUMBERS = np.zeros(3, int)


@pytest.fixture
def seen():
    random = np.random.default_rng(0)
    rows = random.random((12, 3))
    targets = np.sin(5 * rows[:, 0]) + rows[:, 1] ** 2
    return rows, (targets - targets.mean()) / targets.std()


def test_predictions_are_those_of_scikit_learn(seen):
    rows, targets = seen
    others = np.random.default_rng(1).random((7, 3))
    lengths, noise = np.array([0.3, 0.8, 2.0]), 1e-2
    theirs = GaussianProcessRegressor(
        Matern(lengths, nu=2.5), alpha=noise, optimizer=None
    ).fit(rows, targets)
    mean, deviation = theirs.predict(others, return_std=True)
    ours = GaussianProcess.given(
        lengths, noise, differences(rows, rows, NUMBERS), targets
    )
    found = ours.predict(differences(rows, others, NUMBERS))
    np.testing.assert_allclose(found[0], mean, rtol=1e-8)
    np.testing.assert_allclose(found[1], deviation, rtol=1e-6)


def test_the_likelihood_is_that_of_scikit_learn(seen, monkeypatch):
    rows, targets = seen
    monkeypatch.setattr(gaussian_process, "_LENGTH_SPREAD", 1e12)
    monkeypatch.setattr(gaussian_process, "_NOISE_SPREAD", 1e12)
    lengths, noise = np.array([0.3, 0.8, 2.0]), 1e-2
    theirs = GaussianProcessRegressor(
        Matern(lengths, nu=2.5), alpha=noise, optimizer=None
    ).fit(rows, targets)
    constant = 0.5 * len(targets) * np.log(2 * np.pi)
    loss, _ = gaussian_process._loss(
        np.log([*lengths, noise]), differences(rows, rows, NUMBERS), targets
    )
    assert loss + constant == pytest.approx(-theirs.log_marginal_likelihood_value_)


def test_the_slope_of_the_loss_is_the_numerical_one(seen):
    rows, targets = seen
    apart = differences(rows, rows, NUMBERS)
    point = np.array([-0.5, 0.2, 0.4, -3.0])
    numerical = optimize.approx_fprime(
        point, lambda at: gaussian_process._loss(at, apart, targets)[0], 1e-6
    )
    _, slope = gaussian_process._loss(point, apart, targets)
    np.testing.assert_allclose(slope, numerical, rtol=1e-4)


def test_names_that_do_not_matter_get_long_scales():
    random = np.random.default_rng(2)
    rows = random.random((40, 3))
    targets = normal_scores(np.sin(6 * rows[:, 1]))
    fitted = GaussianProcess.fitted(differences(rows, rows, NUMBERS), targets)
    assert fitted.lengths[1] < fitted.lengths[[0, 2]].min() / 2


def test_ranks_do_not_change_under_increasing_transforms():
    values = np.random.default_rng(3).random(20)
    np.testing.assert_array_equal(
        normal_scores(values), normal_scores(np.exp(9 * values))
    )
    assert normal_scores(np.array([1.0, np.inf, 2.0]))[1] == pytest.approx(
        stats.norm.ppf(5 / 6)
    )


@pytest.mark.parametrize("score", [3.0, 0.5, -0.9, -1.1, -4.0, -8.0])
def test_the_expected_improvement_is_its_integral(score):
    deviation = 0.7
    mean = -score * deviation  # the best is 0

    def improvement(value):
        return -value * stats.norm.pdf(value, mean, deviation)

    low = min(mean, 0) - 12 * deviation
    expected, _ = integrate.quad(improvement, low, 0, epsabs=0, epsrel=1e-10, limit=500)
    found = log_expected_improvement(np.array([mean]), np.array([deviation]), 0.0)
    assert found[0] == pytest.approx(np.log(expected), rel=1e-6)


def test_the_expected_improvement_keeps_its_order_where_it_underflows():
    means = np.linspace(10, 1000, 50)
    found = log_expected_improvement(means, np.ones(50), 0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()


def test_absent_names_are_alike_and_differ_from_all_others():
    rows = np.array([[0.2, np.nan], [0.2, 0.4], [0.5, np.nan]])
    numbers = np.zeros(2, int)
    apart = differences(rows, rows, numbers)
    np.testing.assert_allclose(apart[1], [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    np.testing.assert_allclose(apart[0], [[0, 0, 0.09], [0, 0, 0.09], [0.09, 0.09, 0]])


def test_choices_are_the_same_or_not():
    rows = np.array([[0.0], [1.0], [2.0]])
    apart = differences(rows, rows, np.array([3]))
    np.testing.assert_array_equal(apart[0], 1 - np.eye(3))
