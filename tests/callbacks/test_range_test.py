import numpy as np
import pytest

from kopt.callbacks import _range_test

RATES = np.geomspace(1e-7, 10.0, 100)


def fall(middle, width=1.0):
    """A loss that falls from 3 to 1 around a rate, and rises far behind it."""
    decades = np.log10(RATES / middle)
    return 2 - np.tanh(decades / width) + np.exp(4 * (decades - 2.5))


def test_the_running_mean_is_unbiased_from_the_first_loss_on():
    np.testing.assert_allclose(_range_test.smooth(np.full(50, 3.0), 0.98), 3.0)
    assert _range_test.smooth(np.array([5.0, 1.0]), 0.98)[0] == pytest.approx(5.0)


def test_the_running_mean_weighs_losses_by_their_age():
    losses = np.random.default_rng(0).normal(size=30)
    weights = 0.9 ** np.arange(30)[::-1]
    wanted = (weights @ losses) / weights.sum()
    assert _range_test.smooth(losses, 0.9)[-1] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("smoothed", "over"),
    [
        ([2.0, 1.0, 4.0], False),
        ([2.0, 1.0, 4.01], True),
        ([2.0, 1.0, 4.01, 2.0], False),  # only the last one counts
        ([1.0, -2.0, 3.9], False),
        ([1.0, -2.0, 4.1], True),
    ],
)
def test_divergence_is_a_multiple_of_the_best(smoothed, over):
    assert _range_test.diverged(np.array(smoothed), 4.0) is over


def test_the_trend_keeps_levels_and_slopes_where_they_are():
    np.testing.assert_allclose(_range_test.trend(np.full(40, 2.0), 3.0), 2.0)
    straight = np.arange(60.0)
    middle = slice(20, 40)  # the ends have neighbours on one side only
    np.testing.assert_allclose(
        _range_test.trend(straight, 3.0)[middle], straight[middle]
    )


def test_the_trend_does_not_lag_where_the_running_mean_does():
    def half_way(losses):
        return int((losses < 2.0).argmax())

    losses = fall(1e-3)
    middle = half_way(losses)
    assert abs(half_way(_range_test.trend(losses, 3.0)) - middle) <= 1
    assert half_way(_range_test.smooth(losses, 0.98)) > middle + 10


def test_a_batch_that_is_far_off_does_not_move_the_trend():
    losses = fall(1e-3)
    spiked = losses.copy()
    spiked[70] += 50.0
    np.testing.assert_allclose(
        _range_test.trend(spiked, 3.0), _range_test.trend(losses, 3.0), atol=0.01
    )


def test_the_trend_averages_noise_away():
    noise = np.random.default_rng(0).normal(size=1000)
    # A Gaussian of width w has the noise of 2 sqrt(pi) w equal weights.
    reduced = _range_test.trend(noise, 5.0)[50:-50].std()
    assert reduced == pytest.approx(1 / np.sqrt(2 * np.sqrt(np.pi) * 5.0), rel=0.15)


@pytest.mark.parametrize("find", [_range_test.steepest, _range_test.halfway])
@pytest.mark.parametrize("middle", [1e-4, 3e-3, 1e-1])
def test_the_middle_of_a_fall_is_found_where_it_is(find, middle):
    found = find(RATES, fall(middle))
    assert abs(np.log10(found / middle)) < 0.2


@pytest.mark.parametrize("find", [_range_test.steepest, _range_test.halfway])
@pytest.mark.parametrize("seed", range(5))
def test_noise_on_the_plateau_does_not_mislead(find, seed):
    noise = np.random.default_rng(seed).normal(scale=0.3, size=100)
    curve = _range_test.trend(fall(3e-3) + noise, 3.0)
    assert abs(np.log10(find(RATES, curve) / 3e-3)) < 0.7


@pytest.mark.parametrize("find", [_range_test.steepest, _range_test.halfway])
def test_a_later_and_steeper_fall_behind_the_minimum_is_no_answer(find):
    curve = fall(1e-4)
    curve[-6:] = np.linspace(90, 3, 6)  # a dead network: finite again, not better
    assert abs(np.log10(find(RATES, curve) / 1e-4)) < 0.2
