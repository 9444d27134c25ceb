import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.quantization import quantize_model, ranges
from kopt.quantization._activation_range import ActivationRange


@pytest.fixture
def calibrated():
    one = ActivationRange(rate=0.25)
    one.set_range(-1.0, 3.0)
    return one


def ends(one):
    return float(one.low.numpy()), float(one.high.numpy())


def test_an_uncalibrated_range_refuses_and_says_what_to_do():
    one = ActivationRange(name="conv_output")
    with pytest.raises(RuntimeError, match=r"'conv_output'.*calibrate\(model, data\)"):
        one(np.ones((2, 2), "float32"))


def test_an_uncalibrated_range_refuses_in_a_graph_and_runs_once_calibrated():
    one = ActivationRange()
    graph = tf.function(lambda x: one(x))
    with pytest.raises(RuntimeError, match="has not been calibrated"):
        graph(tf.ones(2))
    one.set_range(0.0, 1.0)
    np.testing.assert_array_equal(graph(tf.ones(2)), [1, 1])


def test_shapes_can_be_inferred_before_calibration():
    assert ActivationRange()(keras.Input((4,))).shape == (None, 4)


def test_inference_rounds_to_the_range_and_leaves_it(calibrated):
    x = np.linspace(-9, 9, 101, dtype="float32")
    np.testing.assert_array_equal(calibrated(x), ranges.fake_quantize(x, -1.0, 3.0))
    assert ends(calibrated) == (-1.0, 3.0)


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_a_training_batch_moves_the_range_by_its_rate(calibrated, how):
    step = {
        "eager": lambda x: calibrated(x, training=True),
        "graph": tf.function(lambda x: calibrated(x, training=True)),
        "xla": tf.function(lambda x: calibrated(x, training=True), jit_compile=True),
    }[how]
    step(tf.constant([-2.0, 1.0, 5.0]))
    assert ends(calibrated) == pytest.approx((-1.25, 3.5))
    step(tf.constant([0.5, 1.5]))
    assert ends(calibrated) == pytest.approx((-1.25 * 0.75, 3.5 * 0.75 + 1.5 * 0.25))


def test_training_rounds_to_the_range_after_the_move(calibrated):
    result = calibrated(tf.constant([-2.0, 1.0, 5.0]), training=True)
    expected = ranges.fake_quantize(tf.constant([-2.0, 1.0, 5.0]), *ends(calibrated))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("catches_up", [False, True])
@pytest.mark.parametrize("value", [0.0, 1e-31, -1e-38, np.inf, np.nan])
def test_a_batch_that_says_nothing_does_not_move_the_range(value, catches_up):
    one = ActivationRange(rate=0.25, catches_up=catches_up)
    one.set_range(-1.0, 3.0)
    one(tf.constant([0.0, value]), training=True)
    assert ends(one) == (-1.0, 3.0)


@pytest.mark.parametrize("size", [1e-25, 1e-20, 1e30])
def test_a_range_of_any_size_has_values_that_are_numbers(size):
    one = ActivationRange(rate=0.25, catches_up=True)
    one.set_range(-1.0, 3.0)
    values = tf.constant([-0.5, 0.25, 1.0]) * size
    for _ in range(3):
        result = one(values, training=True)
    step = (one.high.numpy() - one.low.numpy()) / 255
    np.testing.assert_allclose(result, values, atol=step)


def test_a_rate_of_zero_freezes_the_range(calibrated):
    calibrated.set_rate(0.0)
    calibrated(tf.constant([-100.0, 100.0]), training=True)
    assert ends(calibrated) == (-1.0, 3.0)


@pytest.fixture
def limited():
    return ActivationRange(rate=0.5, limit=ranges.AtMost(-4.0, 4.0))


def test_neither_calibration_nor_training_moves_a_range_beyond_its_limit(limited):
    limited.set_range(-9.0, 1.0)
    assert ends(limited) == (-4.0, 1.0)
    limited(tf.constant([-9.0, 9.0]), training=True)
    assert ends(limited) == (-4.0, 2.5)


def test_a_limit_is_in_the_config(limited):
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(limited)
    )
    assert again.limit == limited.limit


def test_the_range_of_a_frozen_layer_stands_still(calibrated):
    calibrated.trainable = False
    calibrated(tf.constant([-100.0, 100.0]), training=True)
    assert ends(calibrated) == (-1.0, 3.0)


def test_a_fixed_range_is_calibrated_and_never_moves():
    one = ActivationRange(fixed=(0.0, 255 / 256))
    one.set_rate(0.5)
    one(tf.constant([-5.0, 5.0]), training=True)
    assert ends(one) == (0.0, 255 / 256)


def test_no_gradient_flows_into_the_range(calibrated):
    x = tf.constant([0.5, 1.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(calibrated(x, training=True))
    np.testing.assert_array_equal(tape.gradient(total, x), [1, 1])
    assert calibrated.trainable_variables == []


def test_an_observer_sees_the_values_and_nothing_is_rounded():
    one, seen = ActivationRange(), []
    one.observer = seen.append
    x = np.float32([0.123456])
    np.testing.assert_array_equal(one(x), x)
    np.testing.assert_array_equal(seen[0], x)


def test_config_makes_the_same_range_again():
    for one in (ActivationRange(4, 0.5), ActivationRange(fixed=(-1, 1))):
        again = ActivationRange.from_config(one.get_config())
        assert (again.bits, again.rate, again.fixed) == (one.bits, one.rate, one.fixed)


def test_replicas_agree_on_the_extremes_of_the_whole_batch(two_replicas):
    strategy = two_replicas
    with strategy.scope():
        one = ActivationRange(rate=1.0)
        one.set_range(-1.0, 1.0)
    batches = iter([tf.constant([-2.0, 2.0]), tf.constant([-4.0, 8.0])])
    values = strategy.experimental_distribute_values_from_function(
        lambda context: next(batches)
    )
    strategy.run(tf.function(lambda x: one(x, training=True)), args=(values,))
    assert ends(one) == pytest.approx((-4.0, 8.0))


def test_the_ranges_of_a_model_catch_up_with_other_statistics_in_training(rows, mlp):
    quantize_model(mlp, calibration_data=rows)
    one = mlp.get_layer("hidden").quantizer.ranges["input_0"]
    mlp(100 * rows, training=True)
    assert float(one.high.numpy()) == pytest.approx(100 * rows.max(), rel=1e-5)
