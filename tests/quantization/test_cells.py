"""Cells in a stack, and cells that convolve."""

import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.quantization import Int8, quantization_report, quantize_model
from tests.quantization.nearness import steps_apart
from tests.sampling import sampled


def stack(*cells, **options):
    return layers.RNN(list(cells), name="loop", **options), (5, 4)


def convolving(layer):
    side = (6,) * (layer.cell.rank)
    return layer, (4, *side, 2)


NETWORKS = {
    "stack": lambda: stack(layers.LSTMCell(4), layers.GRUCell(3)),
    "stack of sequences": lambda: stack(
        layers.SimpleRNNCell(4), layers.SimpleRNNCell(3), return_sequences=True
    ),
    "stack of one": lambda: stack(layers.GRUCell(3)),
    "convolution": lambda: convolving(layers.ConvLSTM2D(3, 3, name="loop")),
    "convolution, same": lambda: convolving(
        layers.ConvLSTM2D(
            3, 3, padding="same", use_bias=False, return_sequences=True, name="loop"
        )
    ),
    "convolution, strides": lambda: convolving(
        layers.ConvLSTM2D(3, 3, strides=2, padding="same", name="loop")
    ),
    "convolution, dropout": lambda: convolving(
        layers.ConvLSTM2D(3, 3, dropout=0.2, recurrent_dropout=0.2, name="loop")
    ),
    "convolution, 1D": lambda: convolving(layers.ConvLSTM1D(3, 3, name="loop")),
}


def network(kind):
    keras.utils.set_random_seed(0)
    layer, shape = NETWORKS[kind]()
    return keras.Sequential([keras.Input(shape), layer, layers.Dense(2, name="head")])


def data_for(model):
    generator = np.random.default_rng(0)
    return generator.normal(size=(48, *model.input_shape[1:])).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_loop_is_integer_and_its_file_computes_the_same(kind, tmp_path):
    model = network(kind)
    data = data_for(model)
    exact = model.predict(data, verbose=0)
    steps, report = steps_apart(model, data, tmp_path / "m.tflite")
    assert all(one.state == "integer" for one in quantization_report(model).layers)
    assert report.float_tensors == ()
    assert steps.max() < 6
    change = np.abs(model.predict(data, verbose=0) - exact) / np.ptp(exact)
    assert change.mean() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("kind", sampled(NETWORKS, {"stack of one", "convolution, 1D"}))
def test_all_weights_in_the_loop_get_gradients(kind):
    model = network(kind)
    data = data_for(model)
    quantize_model(model, calibration_data=data)
    before = [one.numpy() for one in model.trainable_variables]
    model.compile("sgd", "mse")
    model.fit(data, np.ones((48, *model.output_shape[1:])), verbose=0)
    for one, values in zip(model.trainable_variables, before, strict=True):
        assert not np.array_equal(one, values), one.path


@pytest.mark.parametrize("kind", sampled(NETWORKS, {"convolution, 1D"}))
def test_the_loop_is_saved_with_its_ranges(kind, tmp_path):
    model = network(kind)
    data = data_for(model)
    quantize_model(model, calibration_data=data)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        loaded.predict(data, verbose=0), model.predict(data, verbose=0)
    )


def notes(model, **options):
    quantize_model(model, Int8(**options), calibration_data=data_for(model))
    return {
        one.name.split("/")[-1]: (one.state, one.note)
        for one in quantization_report(model).layers
    }


def test_a_stack_with_a_cell_that_has_no_integer_form_stays_float_as_a_whole():
    first, second = layers.GRUCell(3, name="first"), layers.GRUCell(3, "selu")
    layer = layers.RNN([first, second], name="loop")
    model = keras.Sequential([keras.Input((5, 4)), layer, layers.Dense(2)])
    found = notes(model)
    assert found["loop"] == ("float", "its activation has no integer form")
    assert found["first"] == ("float", "loop stays float")


def test_a_recurrent_layer_that_is_chosen_to_stay_float_takes_its_cell_along():
    layer = layers.LSTM(3, name="loop")
    model = keras.Sequential([keras.Input((5, 4)), layer, layers.Dense(2)])
    exact = layer.cell.kernel.numpy()
    found = notes(model, float_layers=["loop"])
    assert found["loop"] == ("float", "chosen to stay float")
    assert not hasattr(layer.cell, "quantizer")
    np.testing.assert_array_equal(layer.cell.kernel, exact)


@pytest.mark.parametrize(
    "layer, shape, reason",
    [
        (
            layers.ConvLSTM3D(2, 2, name="loop"),
            (3, 4, 4, 4, 2),
            "the runtime has no integer convolution over three axes",
        ),
        (
            layers.ConvLSTM1D(2, 2, activation="selu", name="loop"),
            (3, 4, 2),
            "its activation has no integer form",
        ),
    ],
)
def test_a_cell_that_convolves_without_integer_form_stays_float(layer, shape, reason):
    model = keras.Sequential([keras.Input(shape), layer, layers.Dense(2)])
    assert notes(model)["loop"] == ("float", reason)


def test_dropout_of_a_cell_that_convolves_is_a_mask_for_each_gate(random):
    # Beside the float layer with the same seed: rounding moves it by little. The
    # ranges hold what is left after dropout, which is doubled.
    data = np.ones((4, 3, 5, 2), "float32")
    wide = random.normal(scale=2.0, size=(64, 3, 5, 2)).astype("float32")
    outputs = []
    for quantized in (False, True):
        keras.utils.set_random_seed(0)
        layer = layers.ConvLSTM1D(3, 3, dropout=0.5, recurrent_dropout=0.5, seed=1)
        model = keras.Sequential([keras.Input((3, 5, 2)), layer, layers.Dense(2)])
        if quantized:
            quantize_model(model, calibration_data=wide)
        outputs.append(np.asarray(model(data, training=True)))
    assert np.abs(outputs[1] - outputs[0]).max() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("first", ["quantize", "sharpen"])
def test_a_layer_that_is_called_twice_trains_sharpness_aware(first, random):
    # The second pass reads no range that the loop of the call before has moved.
    inputs = keras.Input((5, 4))
    layer = layers.GRU(4, return_sequences=True)
    model = keras.Model(inputs, layers.Dense(2)(layer(layer(inputs))))
    x = random.normal(size=(16, 5, 4)).astype("float32")
    if first == "sharpen":
        kopt.sharpness_aware(model)
    quantize_model(model, calibration_data=x)
    if first == "quantize":
        kopt.sharpness_aware(model)
    model.compile(kopt.SGD(0.1), "mse")
    target = np.ones((16, 5, 2), "float32")
    losses = [model.train_on_batch(x, target) for _ in range(5)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
