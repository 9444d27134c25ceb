"""Layers with activations of 16 bits in a file of 8 bits."""

import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.export import ConversionError, Interpreter
from kopt.export._file_contents import read


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, activation="relu", name="first"),
            layers.Conv2D(6, 3, name="second"),
            layers.Flatten(name="flat"),
            layers.Dense(5, name="scores"),
        ]
    )


@pytest.fixture
def x(random):
    return random.normal(size=(60, 8, 8, 3)).astype("float32")


def operations(path):
    contents = read(path.read_bytes())
    return [
        (one.name, contents.tensors[one.outputs[0]].dtype)
        for one in contents.operations
        if one.name not in ("QUANTIZE", "DEQUANTIZE", "RESHAPE")
    ]


def error_of(path, model, x):
    return np.abs(Interpreter(path).predict(x) - np.asarray(model(x))).mean()


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


CHOSEN = {
    "first": ["int16", "int8", "int8"],
    "second": ["int8", "int16", "int8"],
    "scores": ["int8", "int8", "int16"],
}


@pytest.mark.parametrize("layer", ["second", *map(slow, ["first", "scores"])])
@pytest.mark.parametrize("io_dtype", ["int8", slow("float32")])
def test_only_the_chosen_layer_has_16_bits(layer, io_dtype, model, x, path):
    report = kopt.export.tflite(model, path, "int8", x, io_dtype, int16_layers=layer)
    assert report.verified and set(report.outputs.values()) == {io_dtype}
    kinds = ["CONV_2D", "CONV_2D", "FULLY_CONNECTED"]
    assert operations(path) == list(zip(kinds, CHOSEN[layer], strict=True))
    assert report.float_tensors == ()


@pytest.mark.slow
def test_16_bits_in_every_layer_are_as_near_as_a_whole_file_of_them(model, x, path):
    kopt.export.tflite(model, path, "int8", x)
    narrow = error_of(path, model, x)
    kopt.export.tflite(model, path, "int16x8", x)
    whole = error_of(path, model, x)
    every = ["first", "second", "flat", "scores"]
    kopt.export.tflite(model, path, "int8", x, int16_layers=every)
    assert {dtype for _, dtype in operations(path)} == {"int16"}
    mixed = error_of(path, model, x)
    np.testing.assert_allclose(mixed, whole, rtol=0.1)
    assert mixed < narrow / 2


@pytest.mark.slow
def test_a_skip_connection_goes_from_8_bits_to_16_and_back(random, path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    first = layers.Dense(8, activation="relu", name="first")(inputs)
    inner = layers.Dense(8, name="inner")(first)
    model = keras.Model(inputs, layers.Dense(3)(layers.Add(name="sum")([first, inner])))
    x = random.normal(size=(60, 6)).astype("float32")
    for chosen in ("inner", "sum", ["first", "sum"], layers.Add):
        report = kopt.export.tflite(model, path, "int8", x, int16_layers=chosen)
        assert report.verified
        wide = [name for name, dtype in operations(path) if dtype == "int16"]
        assert len(wide) == (2 if isinstance(chosen, list) else 1)


@pytest.mark.slow
def test_a_layer_without_a_kernel_for_16_bits_is_refused(random, path):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8),
            layers.ELU(name="act"),
            layers.Dense(3),
        ]
    )
    x = random.normal(size=(60, 6)).astype("float32")
    with pytest.raises(ConversionError, match="no kernel for ELU"):
        kopt.export.tflite(model, path, "int8", x, int16_layers="act")
    assert not path.exists()


def test_other_exports_are_refused_with_what_is_accepted(model, x, path):
    for options in (
        {"quantization": None},
        {"quantization": "int16x8"},
        {"float_layers": "second"},
        {"io_dtype": "uint8"},
        {"sparse": True},
    ):
        options = {"quantization": "int8", **options}
        with pytest.raises(ValueError, match="`int16_layers` is for a float model"):
            kopt.export.tflite(
                model, path, representative_data=x, int16_layers="first", **options
            )
    with pytest.raises(ValueError, match="int16_layers"):
        kopt.export.tflite(model, path, "int8", x, int16_layers="nothing")
