"""What Adafactor keeps for a variable, and how far it lets it move."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.optimizers._factored import factored_axes
from kopt.optimizers._update import FUSE_FROM
from tests.reference.optimizers import adafactor as reference


def numbers_kept(optimizer, shape):
    """Numbers of state for one variable, without counters and learning rate."""
    variable = keras.Variable(np.ones(shape, "float32"))
    optimizer.build([variable])
    return sum(int(np.prod(s.shape)) for s in optimizer.state(variable).values())


def test_a_matrix_costs_a_row_and_a_column():
    kept = numbers_kept(kopt.Adafactor(), (1000, 500))
    assert kept == 1000 + 500
    assert kept < 0.02 * numbers_kept(kopt.Adam(), (1000, 500))


def test_all_variables_of_the_optimizer_are_below_two_percent_of_adams():
    def total(optimizer):
        optimizer.build([keras.Variable(np.ones((1000, 500), "float32"))])
        return sum(int(np.prod(v.shape)) for v in optimizer.variables)

    assert total(kopt.Adafactor()) < 0.02 * total(kopt.Adam())


def test_momentum_costs_one_more_slot():
    kept = numbers_kept(kopt.Adafactor(beta_1=0.9), (1000, 500))
    assert kept == 1000 * 500 + 1000 + 500


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((), None),
        ((500,), None),
        ((500, 100), None),
        ((128, 500), (0, 1)),
        ((3, 3, 256, 512), (2, 3)),
        ((256, 8, 512), (0, 2)),
        ((200, 200, 200), (1, 2)),
    ],
)
def test_the_two_longest_axes_are_factored_unless_one_is_short(shape, axes):
    assert factored_axes(shape, 128) == axes


def test_a_kernel_is_factored_over_its_channels():
    kept = numbers_kept(kopt.Adafactor(), (3, 3, 128, 256))
    assert kept == 9 * (128 + 256)


def test_squares_of_rank_one_are_kept_exactly():
    # Then the factors are the full second moment.
    generator = np.random.default_rng(1)
    squares = np.outer(generator.uniform(1, 9, 6), generator.uniform(1, 9, 4))
    gradient = tf.constant(np.sqrt(squares), "float32")
    results = []
    for smallest in (1, 128):
        variable = keras.Variable(np.ones((6, 4), "float32"))
        optimizer = kopt.Adafactor(0.1, min_dim_size_to_factor=smallest)
        for _ in range(3):
            optimizer.apply([gradient], [variable])
        results.append(variable.numpy())
    np.testing.assert_allclose(*results, rtol=1e-6)


@pytest.mark.parametrize("beta_1", [None, 0.9])
@pytest.mark.parametrize("shape", [(1100, 64), (70_000,)])
def test_large_variables_that_are_not_factored_take_the_same_steps(shape, beta_1):
    # The reference is the paper in float64. Their length comes from a program.
    assert np.prod(shape) >= FUSE_FROM
    generator = np.random.default_rng(0)
    weights = generator.normal(size=shape)
    variable = keras.Variable(weights.astype("float32"))
    optimizer = kopt.Adafactor(0.1, beta_1=beta_1, clip_threshold=0.7)
    optimizer.build([variable])
    update = tf.function(lambda gradient: optimizer.apply([gradient], [variable]))
    state = {}
    for number in range(1, 4):
        # Rows without a gradient, as an embedding has them.
        gradient = generator.normal(size=shape)
        gradient[::3] = 0
        update(tf.constant(gradient, "float32"))
        weights, state = reference.update(
            weights, gradient, state, number, 0.1, beta_1=beta_1, clip_threshold=0.7
        )
    np.testing.assert_allclose(variable.numpy(), weights, rtol=1e-5, atol=1e-6)


def stepped(gradient, height):
    """Weights after a step whose gradient is traced with this height."""
    variable = keras.Variable(np.ones(gradient.shape, "float32"))
    optimizer = kopt.Adafactor(0.1)
    optimizer.build([variable])
    update = tf.function(
        lambda gradient: optimizer.apply([gradient], [variable]),
        input_signature=[tf.TensorSpec((height, gradient.shape[1]))],
    )
    update(tf.constant(gradient))
    return variable.numpy()


def test_a_gradient_whose_height_is_not_known_before_takes_the_same_step():
    # As that of an embedding over replicas.
    gradient = np.random.default_rng(0).normal(size=(1100, 64)).astype("float32")
    found = stepped(gradient, None)
    assert np.any(found != 1)
    np.testing.assert_allclose(found, stepped(gradient, 1100), rtol=1e-6)


def moved(weight, steps=1, **arguments):
    """How far the last of some steps moves a weight under a constant gradient."""
    variable = keras.Variable(np.full(3, weight, "float32"))
    optimizer = kopt.Adafactor(**arguments)
    for _ in range(steps):
        before = variable.numpy()
        optimizer.apply([tf.ones(3)], [variable])
    return (before - variable.numpy())[0]


def test_steps_are_a_share_of_the_weights_size():
    assert moved(4.0, learning_rate=0.1) == pytest.approx(0.4)
    still = {"learning_rate": 0.1, "scale_parameter": False}
    assert moved(4.0, **still) == pytest.approx(0.1)


def test_small_weights_count_as_epsilon_2():
    step = moved(1e-6, learning_rate=0.1, epsilon_2=0.02)
    assert step == pytest.approx(0.002, rel=1e-4)


def test_relative_steps_shrink_with_the_root_of_time_and_can_be_switched_off():
    large = {"learning_rate": 1.0, "steps": 4, "scale_parameter": False}
    assert moved(1.0, **large) == pytest.approx(0.5, rel=1e-5)
    assert moved(1.0, **large, relative_step=False) == pytest.approx(1.0, rel=1e-5)


def test_a_second_moment_that_does_not_fade_is_refused():
    with pytest.raises(ValueError, match=r"`beta_2_decay` must be .* less than 0"):
        kopt.Adafactor(beta_2_decay=0.8)
