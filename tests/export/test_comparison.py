import numpy as np
import pytest

from kopt.export._comparison import difference

MODES = [None, "float16", "dynamic", "int8", "int16x8", "trained int8"]


@pytest.mark.parametrize("mode", MODES)
def test_equal_outputs_pass_and_differ_by_nothing(random, mode):
    values = random.normal(size=(20, 5))
    found = difference(values, values, mode, 0.01)
    assert found.passed and found.max == 0.0 and found.agreement == 1.0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_probabilities_of_another_model_never_pass(random, mode, classes):
    def probabilities():
        logits = random.normal(size=(50, classes)) * 8
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    assert not difference(probabilities(), probabilities(), mode, 1 / 256).passed


@pytest.mark.parametrize("mode", MODES)
def test_real_numbers_of_another_model_never_pass(random, mode):
    values, other = random.normal(size=(2, 50, 1))
    assert not difference(values, other, mode, 0.01).passed


@pytest.mark.parametrize("mode", MODES)
def test_outputs_that_are_not_a_number_never_pass(mode):
    values = np.ones((4, 2))
    broken = np.array([[1, 1], [1, np.nan], [1, 1], [1, 1]])
    assert not difference(values, broken, mode, 0.01).passed


def test_what_the_model_does_not_know_either_is_no_difference():
    values = np.array([[1.0, np.nan], [np.inf, 2.0]])
    found = difference(values, values.copy(), None, None)
    assert found.passed and found.max == 0.0


def test_differences_are_stated_in_units_and_in_integer_steps():
    found = difference(np.array([[1.0, 2.0]]), np.array([[1.0, 2.5]]), "int8", 0.25)
    assert (found.max, found.mean) == (0.5, 0.25)
    assert (found.max_lsb, found.mean_lsb) == (2.0, 1.0)


def test_float_outputs_have_no_integer_steps():
    found = difference(np.ones((2, 2)), np.ones((2, 2)), None, None)
    assert found.max_lsb is None and found.mean_lsb is None


def test_agreement_is_the_share_of_samples_with_the_same_largest_output():
    expected = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    received = np.array([[0.2, 0.8], [0.4, 0.6], [0.1, 0.9], [0.9, 0.1]])
    assert difference(expected, received, "int8", None).agreement == 0.75


@pytest.mark.parametrize("shape", [(6, 1), (6,)])
def test_single_values_have_no_agreement(shape):
    assert difference(np.ones(shape), np.ones(shape), None, None).agreement is None


def test_one_integer_step_is_right_however_small_the_outputs_are():
    # 1000 equal probabilities are below half a step of 1/256: all are stored as 0.
    expected, received = np.full((4, 1000), 1e-3), np.zeros((4, 1000))
    assert difference(expected, received, "int8", 1 / 256).passed
    assert not difference(expected, received, "int8", None).passed
