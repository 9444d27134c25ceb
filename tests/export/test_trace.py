import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt._signature import signature_of
from kopt.export import _trace
from tests.sampling import sampled


def test_a_trace_names_operations_and_outputs(tiny, tmp_path):
    graph = _trace.write_saved_model(signature_of(tiny).with_batch(1), tmp_path)
    assert {"Conv2D", "MatMul", "Relu"} <= graph.operations
    assert graph.outputs == {"scores": "float32"}


def test_constants_take_the_place_of_weights(tiny, images, tmp_path):
    graph = _trace.write_for_converter(signature_of(tiny).with_batch(40), tmp_path)
    assert "ReadVariableOp" not in graph.operations
    assert graph.outputs == {"scores": "float32"}
    loaded = tf.saved_model.load(tmp_path)
    found = loaded.signatures["serving_default"](input=tf.constant(images))
    np.testing.assert_allclose(found["scores"], tiny(images), rtol=1e-5, atol=1e-6)
    assert not loaded.variables_in_use


def test_weights_too_large_for_a_graph_stay_variables(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(_trace, "_LARGEST_GRAPH", 100)
    graph = _trace.write_for_converter(signature_of(tiny).with_batch(1), tmp_path)
    assert "ReadVariableOp" in graph.operations


def test_a_weight_that_is_read_past_keras_is_not_lost(tmp_path):
    class Raw(keras.layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(shape=(3,), initializer="ones")
            self.raw = tf.Variable([1.0, 2.0, 3.0])

        def call(self, inputs):
            return inputs * self.scale * self.raw

    model = keras.Sequential([keras.Input((3,)), Raw()])
    _trace.write_for_converter(signature_of(model).with_batch(1), tmp_path)
    loaded = tf.saved_model.load(tmp_path)
    (found,) = loaded.signatures["serving_default"](input=tf.ones((1, 3))).values()
    np.testing.assert_array_equal(found, [[1.0, 2.0, 3.0]])


def test_the_trace_of_a_loop_shows_the_loop(tmp_path):
    model = keras.Sequential([keras.Input((4, 2)), keras.layers.LSTM(3)])
    graph = _trace.write_saved_model(signature_of(model).with_batch(1), tmp_path)
    assert "While" in graph.operations


@pytest.mark.parametrize("layer", sampled(["LSTM", "GRU", "SimpleRNN"], ["LSTM"]))
def test_unrolled_recurrent_layers_have_no_loop(tmp_path, layer):
    inner = getattr(keras.layers, layer)(3)
    model = keras.Sequential([keras.Input((4, 2)), keras.layers.Bidirectional(inner)])
    with _trace.unrolled(model):
        graph = _trace.write_saved_model(signature_of(model).with_batch(1), tmp_path)
    assert "While" not in graph.operations
    again = _trace.write_saved_model(
        signature_of(model).with_batch(1), tmp_path / "again"
    )
    assert "While" in again.operations


def test_a_mixed_model_computes_in_float32_for_a_while(images):
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3)])
    with _trace.float32_compute(model):
        assert keras.backend.standardize_dtype(model(images).dtype) == "float32"
    assert keras.backend.standardize_dtype(model(images).dtype) == "float16"


def test_float32_compute_uses_the_weights_in_full(images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    mixed = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3)])
    keras.config.set_dtype_policy("float32")
    plain = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3)])
    plain.set_weights(mixed.get_weights())
    with _trace.float32_compute(mixed):
        np.testing.assert_array_equal(mixed(images), plain(images))


def test_weights_in_16_bits_are_found():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, dtype="bfloat16")]
    )
    assert len(_trace.half_variables(model)) == 2


@pytest.mark.parametrize("axis", [[0], [-1], [0, 2], []])
def test_a_slice_backwards_is_a_reversal(random, axis):
    x, reverse = random.normal(size=(2, 3, 4)), tf.reverse
    with _trace.reversed_by_slices():
        traced = tf.function(lambda x: tf.reverse(x, axis))
        graph = traced.get_concrete_function(tf.TensorSpec(x.shape, x.dtype)).graph
        found = traced(x)
    assert tf.reverse is reverse
    np.testing.assert_array_equal(found, np.flip(x, axis))
    assert not any(one.type == "ReverseV2" for one in graph.get_operations())
