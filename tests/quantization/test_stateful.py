"""Laws of quantized recurrent layers that keep their state from call to call."""

import keras
import numpy as np
import pytest
from keras import layers

import kopt

X = np.random.default_rng(0).normal(size=(64, 5, 4)).astype("float32")
LAYERS = {
    "SimpleRNN": lambda: layers.SimpleRNN(6, stateful=True),
    "LSTM": lambda: layers.LSTM(6, stateful=True),
    "GRU": lambda: layers.GRU(6, stateful=True),
    "GRU, reset before": lambda: layers.GRU(6, stateful=True, reset_after=False),
    "Bidirectional": lambda: layers.Bidirectional(layers.LSTM(5, stateful=True)),
}


def quantized(name):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input(batch_shape=(4, 5, 4)), LAYERS[name](), layers.Dense(3)]
    )
    return kopt.quantization.quantize_model(model, calibration_data=X)


@pytest.mark.parametrize(
    "name",
    [
        "GRU",
        *[pytest.param(one, marks=pytest.mark.slow) for one in LAYERS if one != "GRU"],
    ],
)
def test_every_step_is_one_of_integers_the_first_included(name, tmp_path):
    model, path = quantized(name), tmp_path / "m.tflite"
    report = kopt.export.tflite(model, path, batch_size=4, verify=X)
    # Operations of the integer file: the recurrent product of the first step too.
    contents = kopt.export.Interpreter(path).contents
    products = [one for one in contents.operations if one.name == "FULLY_CONNECTED"]
    assert len(products) >= 11
    for one in products:
        assert contents.tensors[one.outputs[0]].dtype == "int8"
    assert report.max_lsb <= 3


def test_the_report_says_that_the_state_is_float():
    report = kopt.quantization.quantization_report(quantized("LSTM"))
    assert report["lstm"].state == "integer"
    assert "its state is kept in float" in report["lstm"].note


def test_a_state_that_is_given_is_used_as_it_is():
    model = quantized("GRU")
    layer = model.layers[0]
    layer.reset_state()
    given = [np.full((4, 6), 0.3, "float32")]
    with_state = layer(X[:4], initial_state=given)
    layer.reset_state()
    assert np.abs(np.asarray(with_state) - np.asarray(layer(X[:4]))).max() > 0.01
