import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.optimizers import _rounding


def test_stochastic_rounding_goes_to_a_neighbour_and_is_right_on_average():
    value = 1.0 + 2**-7 * 0.3  # three tenths of the way to the next bfloat16
    values = tf.fill([20000], tf.constant(value, tf.float32))
    rounded = tf.cast(_rounding.stochastic(values, [1, 2]), tf.float32).numpy()
    assert set(np.unique(rounded)) == {1.0, 1.0 + 2**-7}
    # The standard error of the share is 0.0032.
    assert abs(np.mean(rounded > 1.0) - 0.3) < 0.015


def test_stochastic_rounding_keeps_what_is_exact_or_not_finite():
    values = tf.constant([0.0, -1.5, 2.0**100, np.inf, -np.inf, np.nan])
    rounded = _rounding.stochastic(values, [3, 4]).numpy().astype("float32")
    np.testing.assert_array_equal(rounded, values.numpy())


def test_stochastic_rounding_repeats_with_its_seed():
    values = tf.random.normal([100])
    first, again, other = (
        _rounding.stochastic(values, seed).numpy() for seed in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def drift(rounding, steps=200):
    """Where a bfloat16 weight of 1 gets by steps of 0.001; nearest is 0.0078."""
    weight = keras.Variable(np.ones(64), dtype="bfloat16")
    optimizer = kopt.SGD(0.001, bf16_rounding=rounding)
    optimizer.build([weight])

    @tf.function
    def step():
        optimizer.apply([tf.ones(64, tf.bfloat16)], [weight])

    for _ in range(steps):
        step()
    return weight.numpy().astype("float32")


def test_steps_below_the_resolution_are_lost_when_rounded_to_the_nearest():
    np.testing.assert_array_equal(drift(None), np.ones(64))


def test_steps_below_the_resolution_add_up_with_kahan():
    np.testing.assert_allclose(drift("kahan"), 0.8, atol=2**-8)


def test_steps_below_the_resolution_add_up_on_average_with_stochastic_rounding():
    ends = drift("stochastic")
    assert np.std(ends) > 0
    assert abs(np.mean(ends) - 0.8) < 0.01


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "Lion"])
def test_a_bfloat16_state_does_not_stand_still(name):
    # The second moment grows by a thousandth a step: nearest rounding would stop it.
    weights = keras.Variable(np.zeros(256, "float32"))
    found = {}
    for dtype in ("float32", "bfloat16"):
        optimizer = getattr(kopt, name)(state_dtype=dtype)
        optimizer.build([weights])
        for _ in range(100):
            optimizer.apply([tf.ones(256)], [weights])
        state = optimizer.state(weights)
        assert {slot.dtype for slot in state.values()} == {dtype}
        slot = state.get("velocity", state["momentum"] if name == "Lion" else None)
        found[dtype] = slot.numpy().astype("float32").mean()
    np.testing.assert_allclose(found["bfloat16"], found["float32"], rtol=0.02)
