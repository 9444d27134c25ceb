"""Layers of all kinds: quantized, trained a step, saved, loaded, exported."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops

import kopt
from kopt._keras.origins import KERAS_HUB
from kopt.quantization import quantization_report, quantize_model, strip_quantization
from kopt.quantization.rule import _RULES_BY_NAME
from tests.sampling import sampled


def functional(build, shape=(8, 8, 4), dtype="float32"):
    x = keras.Input(shape, dtype=dtype)
    return keras.Model(x, build(x))


def with_operations(x):
    return layers.Dense(3)(ops.relu(layers.Dense(4)(x) * 2.0 + 1.0))


def attention(x):
    return layers.Dense(3)(layers.MultiHeadAttention(2, 4, dropout=0.1)(x, x))


def lstm(x):
    return layers.Dense(3)(layers.LSTM(4, dropout=0.1, recurrent_dropout=0.1)(x))


MODELS = {
    "operations": lambda: functional(with_operations),
    "operations inside": lambda: functional(functional(with_operations)),
    "attention": lambda: functional(attention, (5, 6)),
    "lstm": lambda: functional(lstm, (4, 5)),
    "gru": lambda: functional(
        lambda x: layers.GRU(4, reset_after=False)(
            layers.GRU(3, return_sequences=True)(x)
        ),
        (4, 5),
    ),
    "both directions": lambda: functional(
        lambda x: layers.Bidirectional(layers.SimpleRNN(4))(x), (4, 5)
    ),
    "over time": lambda: functional(
        lambda x: layers.TimeDistributed(layers.Dense(4))(x), (4, 5)
    ),
}


def sample(model, random):
    return random.normal(size=(16, *model.inputs[0].shape[1:])).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(MODELS, MODELS.keys() - {"gru", "lstm"}))
def test_a_model_trains_and_comes_back_from_its_file(name, random, tmp_path):
    model = MODELS[name]()
    x = sample(model, random)
    exact = model.predict(x, verbose=0)
    quantize_model(model, calibration_data=x)
    rounded = model.predict(x, verbose=0)
    assert 0 < np.abs(rounded - exact).max() < 0.1 * np.ptp(exact)
    assert quantization_report(model).stays_float == ()
    model.compile("adam", "mse")
    before = [one.numpy() for one in model.trainable_variables]
    for _ in range(3):
        model.train_on_batch(x, 2 * exact + 1)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        assert (variable.numpy() != value).any(), variable.path
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    # Keras gives a wrapper's parts other paths when it loads it.
    reports = [quantization_report(one).layers for one in (again, model)]
    first, second = ([(x.layer, x.ranges) for x in one] for one in reports)
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "kind"),
    sampled(
        itertools.product(
            ["concat", "sum", "ave", "mul", None],
            [layers.SimpleRNN, layers.LSTM, layers.GRU],
        ),
        [("concat", layers.LSTM), ("ave", layers.SimpleRNN), (None, layers.GRU)],
    ),
)
def test_both_directions_end_in_the_grid_of_the_file(mode, kind, random, tmp_path):
    both = layers.Bidirectional(kind(3, return_sequences=True), merge_mode=mode)
    model = functional(both, (3, 4))
    x = sample(model, random)
    quantize_model(model, calibration_data=x)
    model.compile("adam", "mse")
    outputs = model.predict(x, verbose=0)
    # The two directions get apart from each other and from where they started.
    model.fit(x, keras.tree.map_structure(lambda y: 3 * y + 1, outputs), verbose=0)
    report = kopt.export.tflite(model, tmp_path / "m.tflite", verify=x)
    assert report.float_tensors == ()
    assert report.max_lsb < 1.1
    assert both.merge_mode == mode


def test_stripping_takes_operations_back(random):
    model = functional(with_operations)
    x = sample(model, random)
    exact = model.predict(x, verbose=0)
    variables = len(model.variables)
    strip_quantization(quantize_model(model, calibration_data=x))
    np.testing.assert_array_equal(model.predict(x, verbose=0), exact)
    assert len(model.variables) == variables
    assert type(model) is keras.Model or type(model).__name__ == "Functional"


def test_ranges_of_operations_are_weights_of_the_model(random, tmp_path):
    model, twin = functional(with_operations), functional(with_operations)
    x = sample(model, random)
    quantize_model(model, calibration_data=x)
    model.save_weights(tmp_path / "m.weights.h5")
    quantize_model(twin).load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(
        twin.predict(x, verbose=0), model.predict(x, verbose=0)
    )


def test_every_operation_that_has_a_rule_is_still_known_to_keras_by_that_name():
    import importlib

    # Those of KerasHub, which is not needed here, are met in a benchmark.
    for name in (one for one in _RULES_BY_NAME if not one.startswith(KERAS_HUB)):
        module, _, class_name = name.rpartition(".")
        found = getattr(importlib.import_module(module), class_name)
        assert issubclass(found, keras.Operation), name


def test_rows_of_an_embedding_lie_on_one_grid(random):
    model = functional(lambda x: layers.Dense(3)(layers.Embedding(20, 6)(x)), (7,))
    x = random.integers(0, 20, (16, 7))
    quantize_model(model, calibration_data=x)
    embedding = model.layers[1]
    rows = np.array(embedding(np.arange(20)))
    assert len(np.unique(rows)) > 20
    steps = rows / embedding.quantizer.ranges["table"].grid().scale
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


def test_whole_numbers_are_not_rounded(random):
    model = functional(
        lambda x: layers.Dense(2)(layers.Flatten()(layers.Embedding(900, 3)(x + 500))),
        (4,),
        "int32",
    )
    x = random.integers(0, 400, (8, 4))
    exact = model(x).numpy()
    quantize_model(model, calibration_data=x)
    np.testing.assert_allclose(model(x), exact, atol=0.05 * np.ptp(exact))


def test_the_carry_of_an_lstm_that_counts_leaves_bits_for_its_small_values():
    # Gates wide open: each step adds tanh(input) to the carry of its unit.
    cell = layers.LSTM(2, return_sequences=True)
    model = functional(cell, (20, 2))
    open_gates = [np.zeros((2, 8)), np.zeros((2, 8)), np.repeat([9.0, 9, 0, 9], 2)]
    open_gates[0][[0, 1], [4, 5]] = 1.0
    cell.set_weights(open_gates)
    x = np.zeros((8, 20, 2), "float32")
    x[..., 0] = 1.0
    x[..., 1] = 0.025
    exact = model.predict(x, verbose=0)
    quantize_model(model, calibration_data=x)
    assert cell.cell.quantizer.ranges["carry"].high.numpy() == 4.0
    # Without the limit a step of the carry would be 0.06, and 0.025 would not add up.
    np.testing.assert_allclose(model.predict(x, verbose=0), exact, atol=0.2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
@pytest.mark.parametrize("layer", [layers.LSTM(4), layers.GRU(4), layers.SimpleRNN(4)])
def test_a_recurrent_layer_is_all_integers_in_the_file(layer, random, tmp_path):
    model = functional(lambda x: layers.Dense(3)(layer(x)), (4, 5))
    x = sample(model, random)
    quantize_model(model, calibration_data=x)
    report = kopt.export.tflite(model, tmp_path / "m.tflite", verify=x, io_dtype="int8")
    assert report.float_tensors == ()
    assert report.max_lsb < 3.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "arguments"),
    [
        ("MobileNetV3Small", {}),
        pytest.param("MobileNetV2", {"alpha": 0.35}, marks=pytest.mark.thorough),
    ],
)
def test_a_network_of_keras_is_all_integers(family, arguments, random, tmp_path):
    model = getattr(keras.applications, family)(
        input_shape=(64, 64, 3), weights=None, classes=10, **arguments
    )
    x = random.uniform(0, 255, (4, 64, 64, 3)).astype("float32")
    quantize_model(model, calibration_data=x)
    assert quantization_report(model).stays_float == ()
    report = kopt.export.tflite(model, tmp_path / "m.tflite", verify=False)
    assert report.float_tensors == ()


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_all_integers_in_the_file(causal, random, tmp_path):
    def build(x):
        attention = layers.MultiHeadAttention(2, 4, bias_initializer="random_normal")
        attended = attention(x, x, use_causal_mask=causal)
        return layers.Dense(3)(layers.Add()([x, attended]))

    model = functional(build, (6, 8))
    x = sample(model, random)
    quantize_model(model, calibration_data=x)
    report = kopt.export.tflite(model, tmp_path / "m.tflite", verify=x, io_dtype="int8")
    assert report.float_tensors == ()
    assert report.max_lsb < 3.5


@pytest.mark.slow
def test_a_product_of_tensors_is_all_integers_in_the_file(random, tmp_path):
    def build(x):
        other = ops.transpose(layers.Dense(4)(x), (0, 2, 1))
        return ops.matmul(layers.Dense(4)(x), other)

    model = functional(build, (5, 6))
    x = sample(model, random)
    quantize_model(model, calibration_data=x)
    report = kopt.export.tflite(model, tmp_path / "m.tflite", verify=x, io_dtype="int8")
    assert report.float_tensors == ()
    assert report.max_lsb < 3.5
