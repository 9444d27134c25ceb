"""What a report says of files of integers that are slower or larger than hoped."""

import keras
import numpy as np
import pytest
from keras import layers

import kopt


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


def images_of(channels, side=48):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((side, side, channels)),
            layers.Conv2D(8, 3, activation="relu", name="first"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    x = np.random.default_rng(0).normal(size=(8, side, side, channels))
    return model, x.astype("float32")


def recurrent(steps=12):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((steps, 3)), layers.GRU(4), layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(20, steps, 3)).astype("float32")
    return model, x


@pytest.mark.parametrize("channels", [1, 3])
def test_a_first_convolution_of_few_channels_is_named(channels, path):
    model, x = images_of(channels)
    report = kopt.export.tflite(model, path, "int8", x, verify=False)
    (text,) = report.slow_parts
    assert f"a convolution of {channels} channels" in text and "float_layers" in text
    assert text in str(report)


@pytest.mark.slow
def test_what_is_float_whole_or_small_is_not_named(path):
    model, x = images_of(3)
    assert kopt.export.tflite(model, path, verify=False).slow_parts == ()
    first = {"verify": False, "float_layers": ("first",)}
    assert kopt.export.tflite(model, path, "int8", x, **first).slow_parts == ()
    for channels, side in ((8, 48), (1, 12)):
        model, x = images_of(channels, side)
        report = kopt.export.tflite(model, path, "int8", x, verify=False)
        assert report.slow_parts == ()


@pytest.mark.slow
def test_an_unrolled_network_that_is_larger_than_in_float_says_so(path):
    model, x = recurrent()
    report = kopt.export.tflite(model, path, "int8", x, beside_float=True)
    (text,) = report.slow_parts
    assert "unrolled" in text and "larger than the weights in float32" in text
    assert report.size_bytes > report.float_size_bytes
    assert "LARGER" in str(report)
    # What it advises helps.
    dynamic = kopt.export.tflite(model, path, "dynamic", verify=x)
    assert dynamic.size_bytes < report.size_bytes and dynamic.slow_parts == ()


@pytest.mark.slow
def test_an_operation_that_no_delegate_takes_is_named(path):
    inputs = keras.Input((8, 8, 3))
    steep = keras.initializers.Constant(1.5)
    x = layers.PReLU(steep, shared_axes=[1, 2])(layers.Conv2D(4, 1)(inputs))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    report = kopt.export.tflite(model, path, "int8", x, verify=False)
    (text,) = report.slow_parts
    assert text.startswith("PRELU: value by value")


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True])
def test_a_file_is_timed_beside_the_float_one_on_demand(trained, path, tmp_path):
    model, x = images_of(1)
    kopt.export.tflite(model, tmp_path / "float.tflite", verify=False)
    if trained:
        kopt.quantization.quantize_model(model, calibration_data=x)
    plain = kopt.export.tflite(model, path, "int8", x)
    report = kopt.export.tflite(model, path, "int8", x, beside_float=True)
    assert plain.float_size_bytes is None and plain.float_speedups == {}
    size = (tmp_path / "float.tflite").stat().st_size
    # Names in a file differ by a number or two.
    assert abs(report.float_size_bytes - size) < 200
    assert report.float_speedups and min(report.float_speedups.values()) > 0
    assert "beside the float file" in str(report)
    slower = any(gain < 1 for gain in report.float_speedups.values())
    assert ("SLOWER" in str(report)) == slower
