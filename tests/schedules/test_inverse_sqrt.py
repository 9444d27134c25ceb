import numpy as np
import pytest

from kopt.schedules import InverseSqrt

STEPS = np.arange(400)


def values(schedule, steps=STEPS):
    return np.asarray(schedule(steps))


def test_it_is_the_rate_of_the_transformer():
    width, warmup = 512, 4000
    steps = np.array([0, 100, 3999, 4000, 99_999], "float64")
    count = steps + 1
    paper = width**-0.5 * np.minimum(count**-0.5, count * warmup**-1.5)
    ours = InverseSqrt((width * warmup) ** -0.5)
    np.testing.assert_allclose(values(ours, steps), paper, rtol=1e-6)


def test_four_times_the_steps_are_half_the_rate():
    ours = values(InverseSqrt(1.0, warmup=10))
    np.testing.assert_allclose(ours[[9, 39, 159]], [1.0, 0.5, 0.25], rtol=1e-6)


def test_a_cool_down_is_a_straight_way_to_zero_at_the_end():
    free = values(InverseSqrt(1.0, warmup=10))
    ours = values(InverseSqrt(1.0, warmup=10, steps=300, cooldown=100))
    np.testing.assert_array_equal(ours[:200], free[:200])
    np.testing.assert_allclose(ours[250], free[250] / 2, rtol=1e-6)
    assert ours[299] > 0 and (ours[300:] == 0).all()


def test_a_cool_down_in_shares_is_bound_to_the_run():
    bound = InverseSqrt(1.0, 0.1, steps=1.0, cooldown=0.2).bind(1000)
    assert (bound.warmup, bound.steps, bound.cooldown) == (100, 1000, 0.2)
    exact = InverseSqrt(1.0, 100, steps=1000, cooldown=200)
    many = np.arange(1010)
    np.testing.assert_array_equal(values(bound, many), values(exact, many))


def test_a_cool_down_has_to_know_where_it_ends():
    with pytest.raises(ValueError, match="`steps` must be given with a cool-down"):
        InverseSqrt(1.0, cooldown=100)


@pytest.mark.parametrize(
    ("warmup", "steps", "cooldown"), [(80, 100, 30), (0.5, 1.0, 0.6), (0.5, 0.8, 0.4)]
)
def test_warm_up_and_cool_down_longer_than_the_run_are_refused(warmup, steps, cooldown):
    with pytest.raises(ValueError, match="must not be longer together"):
        InverseSqrt(1.0, warmup, steps=steps, cooldown=cooldown)
