import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.quantization import Int8, freeze_ranges, quantize_model, ranges


def gradients(x, low, high, upstream):
    """Line by line from the paper: dv/ds inside is round(v/s) - v/s, else an end."""
    step = (high - low) / 255
    to_low = to_high = 0.0
    for value, weight in zip(x, upstream, strict=True):
        if value < low:
            to_low += weight
        elif value > high:
            to_high += weight
        else:
            error = weight * (np.round(value / step) - value / step) / 255
            to_low, to_high = to_low - error, to_high + error
    scale = 255**2 / np.sqrt(len(x) * 255)
    return scale * to_low, scale * to_high


def test_gradients_are_those_of_learned_step_sizes(random):
    x = random.normal(size=200).astype("float32")
    upstream = random.normal(size=200).astype("float32")
    # Zero is on the grid of these ends, so that nothing moves them.
    low, high = -100 * 0.01, 155 * 0.01
    variables = [tf.Variable(x), tf.Variable(low), tf.Variable(high)]
    with tf.GradientTape() as tape:
        y = ranges.fake_quantize_learned(*variables, rate=0.1)
        loss = tf.reduce_sum(upstream * y)
    to_x, *to_ends = tape.gradient(loss, variables)
    np.testing.assert_allclose(to_ends, gradients(x, low, high, upstream), rtol=2e-3)
    inside = (x >= low) & (x <= high)
    np.testing.assert_array_equal(to_x, np.where(inside, upstream, 0))


def test_values_are_those_of_a_range_that_is_not_learned(random):
    x = random.normal(size=200).astype("float32")
    learned = ranges.fake_quantize_learned(x, -1.0, 2.0, 0.1)
    np.testing.assert_array_equal(learned, ranges.fake_quantize(x, -1.0, 2.0))


@pytest.fixture
def trained(mlp, rows):
    quantize_model(mlp, Int8(learned_ranges=True), rows)
    mlp.compile(keras.optimizers.Adam(1e-2), "mse")
    return mlp


def ends(model):
    return [
        (float(one.low.numpy()), float(one.high.numpy()))
        for layer in model.layers
        for one in layer.quantizer.ranges.values()
    ]


def test_training_moves_the_ranges(trained, rows):
    before = ends(trained)
    trained.fit(rows, rows[:, :3], epochs=3, verbose=0)
    assert all(one != other for one, other in zip(ends(trained), before, strict=True))
    assert all(low <= 0 <= high and high > low for low, high in ends(trained))


def test_frozen_ranges_get_no_gradient(trained, rows):
    freeze_ranges(trained)
    before = ends(trained)
    trained.fit(rows, rows[:, :3], verbose=0)
    assert ends(trained) == before


def test_learned_ranges_come_back_from_a_file_and_go_on(trained, rows, tmp_path):
    trained.fit(rows, rows[:, :3], verbose=0)
    trained.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert ends(again) == ends(trained)
    again.fit(rows, rows[:, :3], verbose=0)
    assert ends(again) != ends(trained)
