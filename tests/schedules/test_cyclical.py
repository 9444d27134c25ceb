import numpy as np
import pytest

from kopt.schedules import Cyclical

STEPS = np.arange(400)


def values(schedule):
    return np.asarray(schedule(STEPS), "float64")


def test_every_cycle_is_like_the_first():
    ours = values(Cyclical(0.1, 0.5, steps=50))
    np.testing.assert_array_equal(ours[50:], ours[:-50])
    np.testing.assert_allclose(ours[[0, 25, 50]], [0.1, 0.5, 0.1], rtol=1e-6)


def test_rise_says_where_in_a_cycle_the_top_is():
    ours = values(Cyclical(0.0, 1.0, steps=50, rise=0.2))
    assert ours.argmax() == 10
    np.testing.assert_allclose(np.diff(ours[:11]), 0.1, rtol=1e-5)


def test_triangular2_halves_each_cycle_exactly():
    ours = values(Cyclical(0.0, 1.0, steps=50, kind="triangular2"))
    np.testing.assert_array_equal(ours[50:], ours[:-50] / 2)


def test_exp_range_shrinks_at_every_step():
    triangle = values(Cyclical(0.0, 1.0, steps=50))
    ours = values(Cyclical(0.0, 1.0, steps=50, kind="exp_range", decay=0.995))
    np.testing.assert_allclose(ours, triangle * 0.995**STEPS, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("kind", "decay"), [("exp_range", None), ("triangular", 0.9)])
def test_the_factor_belongs_to_exp_range(kind, decay):
    with pytest.raises(ValueError, match="`decay` is the factor of kind='exp_range'"):
        Cyclical(0.1, 0.5, steps=50, kind=kind, decay=decay)


def test_the_bounds_are_apart():
    with pytest.raises(ValueError, match=r"`maximum` must be .* greater than 0\.5"):
        Cyclical(0.5, 0.5, steps=50)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("kind", "decay"),
    [("triangular", None), ("triangular2", None), ("exp_range", 0.995)],
)
def test_it_agrees_with_torch(kind, decay, torch_rates):
    def make(lr):
        return lambda optimizer: lr.CyclicLR(
            optimizer,
            base_lr=0.01,
            max_lr=0.1,
            step_size_up=10,
            step_size_down=40,
            mode=kind,
            gamma=decay or 1.0,
            cycle_momentum=False,
        )

    theirs = torch_rates(make, 400)
    ours = values(Cyclical(0.01, 0.1, steps=50, kind=kind, rise=0.2, decay=decay))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
