"""The options around the formula, each against its definition in NumPy.

Gradient descent shows them bare: without momentum its direction is the gradient.
"""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt


def step(weights, gradient, **options):
    """What one update takes off the weights."""
    variable = keras.Variable(weights)
    options = {"learning_rate": 1.0, **options}
    kopt.SGD(**options).apply([tf.constant(gradient, "float32")], [variable])
    return weights - variable.numpy()


@pytest.fixture
def kernel():
    return np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype("float32")


@pytest.fixture
def gradient():
    return np.random.default_rng(1).normal(size=(3, 3, 4, 5)).astype("float32")


def test_centralization_takes_the_mean_off_each_output_unit(kernel, gradient):
    moved = step(kernel, gradient, gradient_centralization=True)
    expected = gradient - gradient.mean(axis=(0, 1, 2), keepdims=True)
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_centralization_leaves_vectors_alone():
    gradient = np.array([1.0, 3.0], "float32")
    moved = step(np.zeros(2, "float32"), gradient, gradient_centralization=True)
    np.testing.assert_allclose(moved, gradient)


def test_adaptive_clipping_bounds_each_unit_by_its_weights(kernel, gradient):
    moved = step(kernel, gradient, agc=0.1)
    axes = (0, 1, 2)
    bound = 0.1 * np.sqrt((kernel**2).sum(axes))
    before, after = (np.sqrt((g**2).sum(axes)) for g in (gradient, moved))
    np.testing.assert_allclose(after, np.minimum(before, bound), rtol=1e-4)


def test_adaptive_clipping_lets_zero_weights_move():
    moved = step(np.zeros((2, 1), "float32"), np.ones((2, 1)), agc=0.5)
    np.testing.assert_allclose(np.sqrt((moved**2).sum()), 0.5 * 1e-3, rtol=1e-4)


def test_clipping_by_norm_is_per_variable():
    moved = step(np.zeros(2, "float32"), np.array([3.0, 4.0]), clipnorm=1.0)
    np.testing.assert_allclose(moved, [0.6, 0.8], rtol=1e-6)


def test_clipping_by_global_norm_is_joint():
    variables = [keras.Variable([0.0]), keras.Variable([0.0])]
    kopt.SGD(1.0, global_clipnorm=1.0).apply(
        [tf.constant([3.0]), tf.constant([4.0])], variables
    )
    found = [-variable.numpy().item() for variable in variables]
    np.testing.assert_allclose(found, [0.6, 0.8], rtol=1e-6)


def test_clipping_does_not_hide_nan():
    moved = step(np.zeros(2, "float32"), np.array([np.nan, 1.0]), clipnorm=1.0)
    assert np.isnan(moved).all()


def test_clipping_by_value_is_elementwise():
    moved = step(np.zeros(3, "float32"), np.array([-9.0, 0.5, 9.0]), clipvalue=1.0)
    np.testing.assert_allclose(moved, [-1.0, 0.5, 1.0])


def test_cautious_drops_what_opposes_the_gradient_and_scales_up_the_rest():
    # Momentum points down everywhere; then half of the gradient points up.
    optimizer = kopt.SGD(1.0, momentum=0.5, cautious=True)
    variable = keras.Variable(np.zeros(4, "float32"))
    optimizer.apply([tf.constant([1.0, 1.0, 1.0, 1.0])], [variable])
    before = variable.numpy()
    optimizer.apply([tf.constant([1.0, 1.0, -0.1, -0.1])], [variable])
    # Direction 0.5 + 1 and 0.5 - 0.1; half agrees, so that half counts twice.
    np.testing.assert_allclose(before - variable.numpy(), [3.0, 3.0, 0, 0], atol=1e-6)


WEIGHTS = np.array([2.0, -4.0], "float32")
GRADIENT = np.array([0.5, 0.5], "float32")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("decoupled", 0.1 * GRADIENT + 0.1 * 0.3 * WEIGHTS),
        ("l2", 0.1 * (GRADIENT + 0.3 * WEIGHTS)),
        # The schedule is at a quarter of its highest rate, 0.4.
        ("independent", 0.1 * GRADIENT + 0.25 * 0.3 * WEIGHTS),
        ("corrected", 0.1 * GRADIENT + 0.25 * 0.1 * 0.3 * WEIGHTS),
        # Only the first weight is moved towards zero by its gradient.
        ("cautious", 0.1 * GRADIENT + 0.1 * 0.3 * WEIGHTS * [1, 0]),
    ],
)
def test_weight_decay_modes(mode, expected):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.4, 1, 0.25)
    variable = keras.Variable(WEIGHTS)
    optimizer = kopt.SGD(schedule, weight_decay=0.3, weight_decay_mode=mode)
    optimizer.build([variable])
    optimizer.batches.assign(1)
    optimizer.apply([tf.constant(GRADIENT)], [variable])
    np.testing.assert_allclose(WEIGHTS - variable.numpy(), expected, rtol=1e-5)


def test_l2_decay_enters_the_moments_of_adam():
    variable = keras.Variable(WEIGHTS)
    kopt.Adam(0.1, weight_decay=0.3, weight_decay_mode="l2").apply(
        [tf.zeros(2)], [variable]
    )
    # The only gradient is the decay's, and Adam's first step forgets its size.
    np.testing.assert_allclose(WEIGHTS - variable.numpy(), [0.1, -0.1], rtol=1e-4)


def test_decay_relative_to_the_schedule_needs_its_first_rate():
    class Bare(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1

    with pytest.raises(ValueError, match="Pass it as `reference_rate`"):
        kopt.SGD(Bare(), weight_decay=0.1, weight_decay_mode="independent")


@pytest.mark.parametrize("name", ["weight_decay", "momentum"])
def test_hyperparameters_move_without_another_trace(name):
    variable = keras.Variable(np.ones(2, "float32"))
    optimizer = kopt.SGD(0.1, momentum=0.5, weight_decay=0.5)
    optimizer.build([variable])

    @tf.function
    def update():
        optimizer.apply([tf.ones(2)], [variable])
        return variable.value

    update()
    first = variable.numpy()
    setattr(optimizer, name, 0.0)
    still = {"weight_decay": 0.1 + 0.05, "momentum": 0.1 + 0.05 * first}[name]
    update()
    np.testing.assert_allclose(first - variable.numpy(), still, rtol=1e-5)
    assert update.experimental_get_tracing_count() == 1
    assert optimizer.get_config()[name] == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": -1}, "`weight_decay` must be .* at least 0"),
        ({"weight_decay_mode": "l1"}, "one of 'decoupled', 'independent', 'l2'"),
        ({"clipnorm": -1.0}, "`clipnorm` must be .* greater than 0"),
        ({"agc": 0.0}, "`agc` must be .* greater than 0"),
        ({"sparse": "fast"}, "one of 'exact', 'lazy'"),
        ({"bf16_rounding": "up"}, "one of None, 'stochastic', 'kahan'"),
        ({"state_dtype": "int8"}, "one of 'bfloat16', 'float32', 'float64'"),
        ({"gradient_accumulation_steps": 1}, "whole number of at least 2"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kopt.SGD(**options)


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match="decay_rate"):
        kopt.SGD(decay_rate=0.1)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: kopt.SGD(0.1, momentum=0.9), "momentum"),
        (lambda: kopt.RMSprop(0.1, momentum=0.9), "momentum"),
        (lambda: kopt.LARS(0.1, momentum=0.9), "momentum"),
        (lambda: kopt.AdamW(0.1, weight_decay=0.9), "weight_decay"),
    ],
    ids=["SGD", "RMSprop", "LARS", "AdamW"],
)
def test_an_attribute_reads_what_its_variable_holds(make, name):
    weight = keras.Variable([1.0, 2.0])
    optimizer = make()
    assert getattr(optimizer, name) == 0.9
    optimizer.apply([keras.ops.ones(2)], [weight])
    assert getattr(optimizer, name) == 0.9
    optimizer.hyperparameters[name].assign(0.25)
    assert getattr(optimizer, name) == optimizer.get_config()[name] == 0.25
    setattr(optimizer, name, 0.5)
    assert float(optimizer.hyperparameters[name]) == getattr(optimizer, name) == 0.5
    copied = copy.deepcopy(optimizer)
    assert getattr(copied, name) == 0.5
    # At zero the method is still the one with a momentum, also for a new trace.
    setattr(optimizer, name, 0.0)
    tf.function(lambda: optimizer.apply([keras.ops.ones(2)], [weight]))()
    assert np.isfinite(weight.numpy()).all()


def test_an_attribute_that_is_not_there_is_said_to_be_missing():
    with pytest.raises(AttributeError, match="'SGD' object has no attribute 'beta_1'"):
        _ = kopt.SGD(0.1).beta_1
