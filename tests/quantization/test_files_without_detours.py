"""Layers that are one operation in the file, or none."""

import collections

import keras
import numpy as np
import pytest
from keras import layers, ops

import kopt
from kopt.export._file_contents import read
from kopt.quantization import Int8, quantization_report, quantize_model
from tests.quantization.nearness import steps_apart
from tests.sampling import sampled


def functional(build, shape=(8, 8, 3), dtype="float32"):
    keras.utils.set_random_seed(0)
    x = keras.Input(shape, dtype=dtype)
    return keras.Model(x, build(x))


def operations(path):
    return collections.Counter(
        one.name
        for one in read(path.read_bytes()).operations
        if "QUANT" not in one.name
    )


def test_a_rescaling_of_the_input_costs_no_operation(random, tmp_path):
    x = random.uniform(0, 255, (40, 8, 8, 3)).astype("float32")
    model = functional(
        lambda x: layers.Conv2D(4, 3, activation="relu")(
            layers.Rescaling(1 / 127.5, -1)(x)
        )
    )
    steps, report = steps_apart(model, x, tmp_path / "m.tflite", io_dtype="uint8")
    assert steps.max() < 3
    assert report.float_tensors == ()
    assert operations(tmp_path / "m.tflite") == {"CONV_2D": 1}


@pytest.mark.parametrize(
    "options", [{"padding": "same"}, {"padding": "same", "strides": 2}]
)
def test_a_rescaling_before_padding_is_right(options, random, tmp_path):
    x = random.uniform(0, 255, (40, 8, 8, 3)).astype("float32")
    model = functional(
        lambda x: layers.Conv2D(4, 3, **options)(layers.Rescaling(1 / 127.5, -1)(x))
    )
    steps, report = steps_apart(model, x, tmp_path / "m.tflite")
    assert steps.max() < 3
    assert report.float_tensors == ()


def transposed(**options):
    return layers.Conv2DTranspose(4, 2, strides=2, use_bias=False, **options)


TRANSPOSED = {
    "relu": lambda x: transposed(activation="relu")(x),
    "plain": lambda x: layers.Conv2D(2, 3)(transposed()(x)),
    "normalized": lambda x: layers.ReLU()(layers.BatchNormalization()(transposed()(x))),
    "silu": lambda x: transposed(activation="silu")(x),
    "sequences": lambda x: layers.Conv1DTranspose(
        4, 3, strides=2, use_bias=False, activation="relu"
    )(layers.Reshape((8, 24))(x)),
}


@pytest.mark.parametrize("kind", sampled(TRANSPOSED, {"relu"}))
def test_a_transposed_convolution_without_bias_is_integers(kind, images, tmp_path):
    model = functional(TRANSPOSED[kind])
    steps, report = steps_apart(model, images, tmp_path / "m.tflite")
    assert report.float_tensors == ()
    assert steps.max() < 3


FLOAT = {
    "relu": (
        lambda x: layers.ReLU()(layers.BatchNormalization()(x)),
        ["first", "batch_normalization", "re_lu"],
    ),
    "none": (layers.BatchNormalization(), ["first", "batch_normalization"]),
}


@pytest.mark.parametrize("kind", sampled(FLOAT, {"relu"}))
def test_a_float_layer_keeps_what_is_computed_with_it(kind, images, tmp_path):
    behind, names = FLOAT[kind]
    keras.backend.clear_session()
    if isinstance(behind, keras.Layer):
        behind = type(behind).from_config(behind.get_config())
    model = functional(
        lambda x: layers.Conv2D(4, 3)(
            behind(layers.Conv2D(8, 3, use_bias=False, name="first")(x))
        )
    )
    quantize_model(model, Int8(float_layers=("first",)), images)
    steps, _ = steps_apart(model, images, tmp_path / "m.tflite")
    assert steps.max() < 3
    assert operations(tmp_path / "m.tflite") == {"CONV_2D": 2}
    stays = [one.name for one in quantization_report(model).stays_float]
    assert stays == names


HARD = {
    "layer": lambda x: layers.Activation("hard_silu")(x),
    "argument": lambda x: layers.Conv2D(4, 1, activation="hard_silu")(x),
    "operation": lambda x: ops.hard_silu(x),
}


@pytest.mark.parametrize("kind", sampled(HARD, {"layer"}))
def test_a_hard_silu_is_operations_that_delegates_take(kind, images, tmp_path):
    model = functional(
        lambda x: layers.Conv2D(2, 1)(HARD[kind](layers.Conv2D(4, 1)(x)))
    )
    exact = model.predict(images, verbose=0)
    steps, report = steps_apart(model, images, tmp_path / "m.tflite")
    assert steps.max() < 3
    assert report.float_tensors == ()
    assert "HARD_SWISH" not in operations(tmp_path / "m.tflite")
    change = np.abs(model.predict(images, verbose=0) - exact)
    assert change.mean() < 0.01 * np.ptp(exact)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-4, 0.01, 30.0])
def test_a_hard_silu_of_small_and_large_values_is_right(size, images, tmp_path):
    keras.utils.set_random_seed(0)
    model = functional(
        lambda x: layers.Conv2D(2, 1)(
            layers.Activation("hard_silu")(layers.Conv2D(4, 1)(x))
        )
    )
    x = images * np.float32(size)
    exact = model.predict(x, verbose=0)
    steps, _ = steps_apart(model, x, tmp_path / "m.tflite", io_dtype="int8")
    assert steps.max() < 3
    assert kopt.export.check(tmp_path / "m.tflite", "xnnpack").passed
    change = np.abs(model.predict(x, verbose=0) - exact)
    assert change.mean() < 0.01 * np.ptp(exact)


SLOPES = {"below 1": (0.3, {"MUL", "ADD"}), "above 1": (1.4, {"PRELU"})}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SLOPES)
def test_slopes_are_a_product_and_a_sum_where_that_is_right(kind, images, tmp_path):
    slope, wanted = SLOPES[kind]
    slopes = keras.initializers.RandomUniform(slope - 0.2, slope, seed=0)
    model = functional(
        lambda x: layers.Conv2D(2, 1)(
            layers.PReLU(slopes, shared_axes=[1, 2])(layers.Conv2D(4, 1)(x))
        )
    )
    steps, report = steps_apart(model, images, tmp_path / "m.tflite")
    assert steps.max() < 3
    assert report.float_tensors == ()
    assert operations(tmp_path / "m.tflite").keys() == {"CONV_2D"} | wanted


@pytest.mark.parametrize("trained", [False, True])
def test_an_embedding_is_one_look_up(trained, random, tmp_path):
    words = random.integers(0, 20, (40, 9)).astype("int32")
    model = functional(lambda x: layers.Embedding(20, 8)(x), (9,), "int32")
    path = tmp_path / "m.tflite"
    if trained:
        model = functional(
            lambda x: layers.Dense(3)(layers.Embedding(20, 8)(x)), (9,), "int32"
        )
        steps, _ = steps_apart(model, words, path)
        assert steps.max() < 3
    else:
        kopt.export.tflite(model, path, verify=words)
    assert operations(path).keys() <= {"GATHER", "FULLY_CONNECTED"}
