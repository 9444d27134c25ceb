import numpy as np
import pytest

from kopt.pruning import ConstantSparsity, CosineDecay, PolynomialDecay
from tests.reference import pruning as reference


def test_constant_sparsity_is_constant():
    schedule = ConstantSparsity(0.3, begin_step=5)
    assert {float(schedule(step)[1]) for step in range(20)} == {np.float32(0.3)}


def test_constant_sparsity_goes_on_for_good_by_default():
    assert bool(ConstantSparsity(0.3, begin_step=0)(10**9)[0])


@pytest.mark.parametrize("power", [1, 3, 0.5])
@pytest.mark.parametrize(("initial", "final"), [(0.0, 0.8), (0.5, 0.95), (0.6, 0.2)])
def test_polynomial_decay_follows_its_formula(initial, final, power):
    schedule = PolynomialDecay(initial, final, 10, 90, power=power)
    for step in range(0, 120, 7):
        expected = reference.polynomial(step, initial, final, 10, 90, power)
        assert float(schedule(step)[1]) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_polynomial_decay_starts_and_ends_where_it_is_told():
    schedule = PolynomialDecay(0.1, 0.9, begin_step=100, end_step=200)
    ends = [float(schedule(step)[1]) for step in (100, 200)]
    assert ends == pytest.approx([0.1, 0.9], abs=1e-7)


def test_polynomial_decay_of_one_step_prunes_to_the_end_at_once():
    due, sparsity = PolynomialDecay(0.1, 0.9, begin_step=4, end_step=4)(4)
    assert bool(due)
    assert float(sparsity) == np.float32(0.9)


@pytest.mark.parametrize(("initial", "final"), [(0.0, 0.8), (0.5, 0.95), (0.6, 0.2)])
def test_cosine_decay_follows_its_formula(initial, final):
    schedule = CosineDecay(initial, final, 10, 90)
    for step in range(0, 120, 7):
        expected = reference.cosine(step, initial, final, 10, 90)
        assert float(schedule(step)[1]) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_schedules_count_epochs_too():
    schedule = PolynomialDecay(0.1, 0.9, 1, 5, power=2, frequency=2).in_epochs(50)
    assert schedule.get_config() == dict(
        initial_sparsity=0.1,
        final_sparsity=0.9,
        begin_step=50,
        end_step=250,
        power=2,
        frequency=100,
    )
    endless = ConstantSparsity(0.5, begin_step=0, frequency=1).in_epochs(30)
    assert [step for step in range(1, 100) if endless(step)[0]] == [30, 60, 90]
    with pytest.raises(ValueError, match="`steps_per_epoch` must be"):
        endless.in_epochs(0)


def test_polynomial_decay_needs_an_end():
    with pytest.raises(ValueError, match="`end_step` must be"):
        PolynomialDecay(0.1, 0.9, begin_step=0, end_step=-1)


@pytest.mark.parametrize("power", [0, -1])
def test_polynomial_decay_needs_a_positive_power(power):
    with pytest.raises(ValueError, match="`power` must be"):
        PolynomialDecay(0.1, 0.9, 0, 10, power=power)
