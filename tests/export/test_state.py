import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kopt
from kopt._keras.model_state import state_kept
from kopt.export import Interpreter


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


class Counted(layers.Layer):
    """Adds how often it was called."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.calls.assign(self.calls + 1.0)
        return inputs + self.calls


class CountedByTensorFlow(Counted):
    """The same with a variable that Keras does not know."""

    def build(self, shape):
        self.calls = tf.Variable(0.0)

    def call(self, inputs):
        self.calls.assign_add(1.0)
        return inputs + self.calls


def recurrent(*stack, batch=1, steps=2):
    return keras.Sequential(
        [keras.Input(batch_shape=(batch, steps, 3)), *stack, layers.Dense(1)]
    )


def counted(layer):
    return keras.Sequential([keras.Input((3,)), layer, layers.Dense(2)])


MODELS = {
    "simple": lambda: recurrent(layers.SimpleRNN(4, stateful=True), steps=1),
    "both directions": lambda: recurrent(
        layers.Bidirectional(layers.LSTM(2, stateful=True))
    ),
    "stack": lambda: recurrent(
        layers.LSTM(3, stateful=True, return_sequences=True),
        layers.GRU(2, stateful=True),
    ),
    "cells": lambda: recurrent(
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], stateful=True)
    ),
    "batch of four": lambda: recurrent(layers.GRU(3, stateful=True), batch=4),
    "counter": lambda: counted(Counted()),
    "counter of TensorFlow": lambda: counted(CountedByTensorFlow()),
}
SLOW = [
    pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name != "counter"
]


def samples_for(model, random):
    return random.normal(size=(12, *model.inputs[0].shape[1:])).astype("float32")


def called_in_turn(model, x):
    """What the model returns, call by call, from the state that it has."""
    size = model.inputs[0].shape[0] or 1
    calls = [model(x[start : start + size]) for start in range(0, len(x), size)]
    return np.concatenate(calls)


def forgetting(model, x):
    """What the model returns if each call begins from the state that it has now."""
    size, calls = model.inputs[0].shape[0] or 1, []
    for start in range(0, len(x), size):
        with state_kept(model):
            calls.append(model(x[start : start + size]))
    return np.concatenate(calls)


def batch_of(model):
    return {"batch_size": model.inputs[0].shape[0] or 1}


@pytest.mark.parametrize("kind", ["counter", *SLOW])
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_a_file_remembers_from_call_to_call(kind, quantization, random, path):
    model = MODELS[kind]()
    x = samples_for(model, random)
    report = kopt.export.tflite(model, path, quantization, x, **batch_of(model))
    forgotten = forgetting(model, x)
    wanted = called_in_turn(model, x)
    error = np.abs(Interpreter(path).predict(x) - wanted)
    if quantization is None:
        assert error.max() <= 1e-4
    # In 8 bits the nets of this size are off by up to 3 % of the output's spread
    # without any state. Forgetting is another order of magnitude.
    assert error.max() <= 0.05 * np.ptp(wanted) + 1e-4
    assert error.mean() <= 0.25 * np.abs(forgotten - wanted).mean()
    assert report.verified


@pytest.mark.parametrize("kind", ["counter", *SLOW])
def test_a_saved_model_remembers_from_call_to_call(kind, random, tmp_path):
    model = MODELS[kind]()
    x = samples_for(model, random)
    kopt.export.saved_model(model, tmp_path / "saved", verify=x)
    loaded, size = tf.saved_model.load(tmp_path / "saved"), batch_of(model)
    starts = range(0, len(x), size["batch_size"])
    found = [loaded.serve(x[start : start + size["batch_size"]]) for start in starts]
    np.testing.assert_allclose(
        np.concatenate(found), called_in_turn(model, x), atol=1e-5
    )


def adding_up():
    """The sum of all that it was ever called with."""
    return keras.Sequential(
        [
            keras.Input(batch_shape=(1, 1, 1)),
            layers.SimpleRNN(
                1,
                activation=None,
                use_bias=False,
                kernel_initializer="ones",
                recurrent_initializer="ones",
                stateful=True,
            ),
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True])
def test_ranges_hold_the_states_that_come_up_call_after_call(trained, random, path):
    model, x = adding_up(), random.uniform(0.5, 1, (12, 1, 1)).astype("float32")
    if trained:
        kopt.quantization.quantize_model(model, calibration_data=x)
        assert float(model.layers[0].states[0][0, 0]) == 0.0
    kopt.export.tflite(model, path, None if trained else "int8", x)
    wanted = np.cumsum(x)
    step = wanted[-1] / 255
    # Each call adds up to two roundings, of the input and of the sum.
    steps = np.abs(Interpreter(path).predict(x).ravel() - wanted) / step
    assert np.all(steps <= 2 + np.arange(12))


@pytest.mark.slow
def test_weights_in_8_bits_remember_as_well(random, path):
    model = MODELS["simple"]()
    x = samples_for(model, random)
    kopt.export.tflite(model, path, "dynamic", verify=x)
    wanted = called_in_turn(model, x)
    np.testing.assert_allclose(Interpreter(path).predict(x), wanted, atol=0.05)


def test_an_interpreter_forgets_on_demand_and_not_by_being_timed(random, path):
    model = counted(Counted())
    x = samples_for(model, random)
    kopt.export.tflite(model, path)
    file = Interpreter(path)
    first = file.predict(x)
    file.latency(2)
    later = file.predict(x)
    file.reset_state()
    again = file.predict(x)
    assert np.abs(later - first).min() > 1e-3
    np.testing.assert_array_equal(again, first)


def test_the_export_leaves_the_state_of_the_model_alone(random, path, tmp_path):
    model = counted(Counted())
    x = samples_for(model, random)
    called_in_turn(model, x[:5])
    kopt.export.tflite(model, path, "int8", x)
    kopt.export.saved_model(model, tmp_path / "saved")
    assert float(model.layers[0].calls) == 5.0
    # The file begins where the model is.
    found = Interpreter(path).predict(x)
    np.testing.assert_allclose(found, called_in_turn(model, x), atol=0.3)


def test_another_batch_than_the_state_s_is_refused_with_the_right_one(path, tmp_path):
    model = MODELS["batch of four"]()
    with pytest.raises(ValueError, match="keeps state for batches of 4") as caught:
        kopt.export.tflite(model, path)
    assert "batch_size=4" in str(caught.value)
    with pytest.raises(ValueError, match="keeps state for batches of 4"):
        kopt.export.saved_model(model, tmp_path / "saved", batch_size=2)


@pytest.mark.slow
def test_a_batch_that_is_not_full_is_refused_by_a_file_with_state(random, path):
    model = MODELS["batch of four"]()
    kopt.export.tflite(model, path, batch_size=4)
    with pytest.raises(ValueError, match=r"multiple of 4 samples\. Received: 6"):
        Interpreter(path).predict(samples_for(model, random)[:6])


def test_what_training_alone_changes_is_no_state(random, path):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dropout(0.5),
            layers.BatchNormalization(),
            layers.Dense(2),
        ]
    )
    kopt.export.tflite(model, path)
    assert not Interpreter(path).contents.has_state
