"""The proximal step of a penalty is the minimum that it is defined as."""

import keras
import numpy as np
import pytest

from kopt.regularizers import L1, GroupLasso, SparseGroupLasso, apply
from tests.regularizers.test_group_lasso import GROUPS, filled, penalized

PENALTIES = [
    L1(0.5, proximal=True),
    GroupLasso(0.5, proximal=True),
    GroupLasso(0.5, -2, scale_by_size=False, proximal=True),
    SparseGroupLasso(0.5, l1_ratio=0.3, proximal=True),
]


@pytest.mark.parametrize("rate", [0.1, 2.0])
@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_no_other_weights_are_better(penalty, rate):
    keras.config.set_floatx("float64")
    generator = np.random.default_rng(0)
    present = generator.normal(size=(6, 4))
    variable = keras.Variable(present)
    found = np.array(penalty.shrunk(variable.value, variable, rate))

    def cost(weights):
        return rate * float(penalty(weights)) + ((weights - present) ** 2).sum() / 2

    least = cost(found)
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(50):
            other = found + size * generator.normal(size=found.shape)
            assert cost(other) > least
            assert cost(found + np.where(found == 0, other - found, 0)) >= least
    assert (found == 0).any() or rate == 0.1


@pytest.mark.parametrize("scale_by_size", [True, False])
@pytest.mark.parametrize("name", GROUPS)
def test_the_units_of_each_layer_get_shorter_by_the_same_amount(name, scale_by_size):
    make, shape, groups = GROUPS[name]
    model = keras.Sequential([keras.Input(shape), make()])
    filled(model)
    penalty = GroupLasso(0.5, scale_by_size=scale_by_size, proximal=True)
    apply(model, {".*": penalty})
    for kernel, split in zip(penalized(model), groups, strict=True):
        before = [np.linalg.norm(group) for group in split(kernel.numpy())]
        size = split(kernel.numpy())[0].size
        amount = 0.4 * 0.5 * (size**0.5 if scale_by_size else 1)
        shrunk = np.array(penalty.shrunk(kernel.value, kernel, 0.4))
        assert shrunk.shape == kernel.shape
        after = [np.linalg.norm(group) for group in split(shrunk)]
        expected = np.maximum(np.array(before) - amount, 0)
        np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-6)
        assert not np.signbit(shrunk[shrunk == 0]).any()


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_zero_weights_and_a_factor_of_zero_stay_as_they_are(penalty):
    variable = keras.Variable(np.zeros((6, 4)))
    zeros = np.array(penalty.shrunk(variable.value, variable, 0.1))
    np.testing.assert_array_equal(zeros, 0)
    other = type(penalty).from_config(penalty.get_config())
    setattr(other, "l1" if isinstance(other, L1) else "factor", 0.0)
    variable.assign(np.random.default_rng(0).normal(size=(6, 4)))
    same = np.array(other.shrunk(variable.value, variable, 0.1))
    np.testing.assert_array_equal(same, variable)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_it_is_saved_whether_the_optimizer_applies_it(penalty):
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(penalty)
    )
    assert again.proximal
    assert again.get_config() == penalty.get_config()
