import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kopt.quantization import quantize_model, ranges
from kopt.quantization._activation_range import ActivationRange
from kopt.quantization._layer_quantizer import LayerQuantizer, WeightGrid
from kopt.quantization._quantized_layer import QuantizedLayer, attach, detach
from tests.reference import quantization as reference


def range_of(low, high):
    one = ActivationRange()
    one.set_range(low, high)
    return one


@pytest.fixture
def dense(rows):
    layer = layers.Dense(4, activation="tanh", bias_initializer="ones")
    layer(rows)
    return layer


def test_an_attached_layer_is_the_same_object_of_a_subclass(dense):
    kernel, name = dense.kernel, dense.name
    assert attach(dense, LayerQuantizer()) is dense
    assert isinstance(dense, layers.Dense)
    assert isinstance(dense, QuantizedLayer)
    assert type(dense).__name__ == "QuantizedDense"
    assert dense.kernel is kernel
    assert dense.name == name


def test_call_keeps_its_signature(dense):
    before = inspect.signature(dense.call)
    attach(dense, LayerQuantizer())
    assert inspect.signature(dense.call) == before


def test_layers_of_one_class_share_their_quantized_class(rows):
    one, two = layers.Dense(1), layers.Dense(2)
    assert type(attach(one, LayerQuantizer())) is type(attach(two, LayerQuantizer()))


def test_an_empty_quantizer_changes_nothing(dense, rows):
    before = dense(rows)
    np.testing.assert_array_equal(attach(dense, LayerQuantizer())(rows), before)


def test_weights_and_tensors_are_rounded_where_the_quantizer_says(dense, rows):
    ends = {"input_0": (-2.0, 2.0), "preactivation": (-4.0, 4.0), "output": (-1.0, 1.0)}
    tensors = {role: range_of(*pair) for role, pair in ends.items()}
    attach(dense, LayerQuantizer([WeightGrid("kernel", (-1,))], tensors))
    kernel = ranges.fake_quantize_weights(dense.kernel, [-1])
    inputs = ranges.fake_quantize(rows, -2.0, 2.0)
    sums = ranges.fake_quantize(inputs @ kernel + 1.0, -4.0, 4.0)
    expected = ranges.fake_quantize(tf.tanh(sums), -1.0, 1.0)
    np.testing.assert_allclose(dense(rows), expected, atol=1e-6)


def test_the_activation_is_back_after_a_call_also_one_that_fails(dense, rows):
    attach(dense, LayerQuantizer((), {"preactivation": range_of(-1.0, 1.0)}))
    dense(rows)
    with pytest.raises(ValueError, match="incompatible"):
        dense(rows[:, :2])
    assert dense.activation is keras.activations.tanh


def test_an_activation_that_is_a_layer_is_taken_off_and_put_back(rows):
    activation = layers.LeakyReLU(negative_slope=0.5)
    dense = layers.Dense(4, activation=activation)
    dense(rows)
    attach(dense, LayerQuantizer((), {"preactivation": range_of(-1.0, 1.0)}))
    sums = ranges.fake_quantize(rows @ dense.kernel, -1.0, 1.0)
    np.testing.assert_allclose(dense(rows), tf.where(sums > 0, sums, sums / 2))
    assert dense.activation is activation


def test_a_whole_layer_in_integers_gives_the_same_values(rows):
    dense = layers.Dense(4, bias_initializer="normal")
    dense(rows)
    pair = (rows.min(), rows.max())
    tensors = {"input_0": range_of(*pair), "output": range_of(-5.0, 4.0)}
    attach(dense, LayerQuantizer([WeightGrid("kernel", (-1,))], tensors))
    expected = reference.integer_dense(
        rows, dense.kernel.numpy(), dense.bias.numpy(), pair, (-5.0, 4.0)
    )
    steps = np.abs(dense(rows) - expected) / reference.grid(-5.0, 4.0)[0]
    # Where a sum lies between two values, the order of additions decides.
    assert steps.max() < 1.01
    assert (steps > 0.5).mean() < 0.02


def test_gradients_reach_weights_and_inputs_unrounded(dense, rows):
    inputs = tf.constant(rows)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        exact = dense(inputs)
    exact = tape.gradient(exact, [inputs, dense.kernel.value])
    attach(dense, LayerQuantizer([WeightGrid("kernel", (-1,))]))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        rounded = dense(inputs)
    rounded = tape.gradient(rounded, [inputs, dense.kernel.value])
    for new, old in zip(rounded, exact, strict=True):
        assert np.abs(new).min() > 0
        np.testing.assert_allclose(new, old, atol=0.05 * np.abs(old).max())


def test_regularizers_and_constraints_see_the_weights_themselves(rows):
    layer = layers.Dense(
        4,
        kernel_regularizer=keras.regularizers.L2(1.0),
        kernel_constraint=keras.constraints.NonNeg(),
    )
    layer(rows)
    attach(layer, LayerQuantizer([WeightGrid("kernel", (-1,))]))
    layer(rows)
    expected = np.sum(layer.kernel.numpy().astype("float64") ** 2)
    assert float(layer.losses[0]) == pytest.approx(expected, rel=1e-6)
    assert isinstance(layer.kernel.constraint, keras.constraints.NonNeg)


def test_dropout_behind_still_knows_that_it_trains(rows):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(50), layers.Dropout(0.5), layers.Dense(50)]
    )
    quantize_model(model, calibration_data=rows)
    assert (model(rows, training=True) != model(rows, training=True)).numpy().any()
    np.testing.assert_array_equal(model(rows), model(rows))


def test_detach_gives_the_float_layer_back(dense, rows):
    before = dense(rows)
    variables = [id(one) for one in dense.variables]
    attach(
        dense,
        LayerQuantizer([WeightGrid("kernel", (-1,))], {"output": range_of(0.0, 1.0)}),
    )
    dense(rows)
    assert type(detach(dense)) is layers.Dense
    np.testing.assert_array_equal(dense(rows), before)
    assert [id(one) for one in dense.variables] == variables


def test_the_config_makes_the_same_layer_again(dense, rows):
    tensors = {"output": range_of(-1.0, 1.0)}
    attach(dense, LayerQuantizer([WeightGrid("kernel", (-1,), 4)], tensors))
    config = keras.saving.serialize_keras_object(dense)
    assert config["registered_name"] == "kopt>QuantizedLayer"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(dense)
    assert again.units == 4
    assert again.quantizer.weight_grids == dense.quantizer.weight_grids
    again.set_weights(dense.get_weights())
    np.testing.assert_array_equal(again(rows), dense(rows))


def test_a_rule_with_compute_that_is_gone_is_named(dense, rows):
    attach(dense, LayerQuantizer(rewritten=True))
    with pytest.raises(RuntimeError, match=r"register_quantize_rule"):
        dense(rows)
