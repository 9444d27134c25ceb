import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.optimizers import _rounding

each_dtype = pytest.mark.parametrize("dtype", ["bfloat16", "float16"])


@pytest.mark.parametrize(
    ("dtype", "low", "space"),
    [
        ("bfloat16", 1.0, 2.0**-7),
        ("float16", 1.0, 2.0**-10),
        ("float16", -(2.0**-15), 2.0**-24),  # where float16 is evenly spaced
        ("float16", 0.0, 2.0**-24),
    ],
)
def test_stochastic_rounding_goes_to_a_neighbour_and_is_right_on_average(
    dtype, low, space
):
    # Three tenths of the way to the next one.
    values = tf.fill([20000], tf.constant(low + 0.3 * space, tf.float32))
    rounded = tf.cast(_rounding.stochastic(values, [1, 2], dtype), tf.float32).numpy()
    assert set(np.unique(rounded)) == {low, low + space}
    # The standard error of the share is 0.0032.
    assert abs(np.mean(rounded > low) - 0.3) < 0.015


@each_dtype
def test_stochastic_rounding_keeps_what_is_exact_or_not_finite(dtype):
    exact = np.float32(tf.as_dtype(dtype).max), 2.0**-14, -(2.0**-24)
    values = tf.constant([0.0, -1.5, *exact, np.inf, -np.inf, np.nan], tf.float32)
    rounded = _rounding.stochastic(values, [3, 4], dtype).numpy().astype("float32")
    np.testing.assert_array_equal(rounded, values.numpy())


def test_the_largest_number_is_not_rounded_to_infinity():
    values = tf.fill([1000], tf.constant(65519.0))  # the nearest float16 is 65504
    rounded = _rounding.stochastic(values, [3, 4], "float16").numpy()
    assert set(rounded) == {np.float16(65504)}


@each_dtype
def test_stochastic_rounding_repeats_with_its_seed(dtype):
    values = tf.random.normal([100])
    first, again, other = (
        _rounding.stochastic(values, seed, dtype).numpy()
        for seed in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


#: A step that both lose when they round 1 less it to the nearest.
RATE = {"bfloat16": 0.001, "float16": 0.0002}


def drift(dtype, steps=200, jit_compile=None, **options):
    """Where weights of 1 get by small steps."""
    weight = keras.Variable(np.ones(64), dtype=dtype)
    optimizer = kopt.SGD(RATE[dtype], **options)
    optimizer.build([weight])

    @tf.function(jit_compile=jit_compile)
    def step():
        optimizer.apply([tf.ones(64, dtype)], [weight])

    for _ in range(steps):
        step()
    return weight.numpy().astype("float32")


@each_dtype
def test_steps_below_the_resolution_are_lost_when_rounded_to_the_nearest(dtype):
    np.testing.assert_array_equal(drift(dtype, bf16_rounding=None), np.ones(64))


@each_dtype
def test_steps_below_the_resolution_add_up_with_kahan(dtype):
    end = 1 - 200 * RATE[dtype]
    np.testing.assert_allclose(drift(dtype, bf16_rounding="kahan"), end, atol=2**-8)


@each_dtype
def test_steps_below_the_resolution_add_up_on_average_by_default(dtype):
    ends = drift(dtype)
    assert np.std(ends) > 0
    # Each step errs by less than a part of the spacing, and the errors are independent.
    assert abs(np.mean(ends) - (1 - 200 * RATE[dtype])) < 10 * RATE[dtype]


@each_dtype
def test_the_default_rounds_the_same_way_in_each_run_and_under_xla(dtype):
    plain, again = drift(dtype, 20), drift(dtype, 20)
    np.testing.assert_array_equal(plain, again)
    np.testing.assert_array_equal(plain, drift(dtype, 20, jit_compile=True))


def test_a_saved_choice_of_the_nearest_stays():
    config = kopt.Adam(bf16_rounding=None).get_config()
    assert kopt.Adam.from_config(config).bf16_rounding is None


@each_dtype
def test_training_in_16_bits_resumes_bit_for_bit(dtype, tmp_path):
    keras.config.set_dtype_policy(dtype)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(kopt.Adam(0.01), "mse")
    x = np.ones((8, 3), "float32")
    model.fit(x, x[:, :2], epochs=3, verbose=0)
    model.save(tmp_path / "half.keras")
    resumed = keras.saving.load_model(tmp_path / "half.keras")
    for one in (model, resumed):
        one.fit(x, x[:, :2], epochs=3, verbose=0)
    for found, expected in zip(resumed.weights, model.weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


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
