import re
import subprocess

import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.export._operator_lists import LISTS


@pytest.fixture(scope="module")
def files(tiny_model, tmp_path_factory):
    """A convolutional classifier as floats and as integers with integer ends."""
    folder = tmp_path_factory.mktemp("files")
    x = np.random.default_rng(0).normal(size=(20, 8, 8, 1)).astype("float32")
    kopt.export.tflite(tiny_model(), folder / "float.tflite")
    kopt.export.tflite(tiny_model(), folder / "int8.tflite", "int8", x, "int8")
    return folder


@pytest.mark.parametrize("target", LISTS)
def test_every_target_takes_a_plain_network_of_integers(files, target):
    report = kopt.export.check(files / "int8.tflite", target)
    assert report.passed and report.taken["CONV_2D"] == 1
    assert report.version in str(report) and report.source in str(report)


def test_floats_are_not_for_the_edge_tpu(files):
    report = kopt.export.check(files / "float.tflite", "edgetpu")
    assert not report.passed
    assert report.left["CONV_2D"] == "float32 values, only int8 and uint8 are taken"
    assert "CONV_2D" in str(report)


def test_an_operation_that_is_not_in_the_list_is_named(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2), layers.ELU()])
    kopt.export.tflite(model, tmp_path / "model.tflite")
    report = kopt.export.check(tmp_path / "model.tflite", "litert-gpu")
    assert report.left == {"ELU": "not in the list"}
    assert kopt.export.check(tmp_path / "model.tflite", "tflite-micro").passed


def test_a_limit_of_an_operation_is_told(tmp_path):
    parts = [keras.Input((2,)) for _ in range(5)]
    model = keras.Model(parts, layers.Dense(2)(layers.Concatenate()(parts)))
    kopt.export.tflite(model, tmp_path / "model.tflite")
    report = kopt.export.check(tmp_path / "model.tflite", "xnnpack")
    assert report.left == {"CONCATENATION": "5 inputs, at most 4 are taken"}


def quantized(model, random_shape, path):
    x = np.random.default_rng(0).normal(size=random_shape).astype("float32")
    kopt.export.tflite(model, path, "int8", x, "int8", verify=False)
    return kopt.export.check(path, "edgetpu").left


@pytest.mark.slow
def test_the_edge_tpu_takes_a_slope_for_each_channel_alone(tmp_path):
    # From its maker's table: alpha may have one axis, the innermost.
    steep = {"alpha_initializer": keras.initializers.Constant(1.5)}
    for shared, wanted in (([1, 2], {}), (None, {"PRELU"})):
        model = keras.Sequential(
            [
                keras.Input((4, 4, 3)),
                layers.Conv2D(3, 1),
                layers.PReLU(shared_axes=shared, **steep),
            ]
        )
        left = quantized(model, (8, 4, 4, 3), tmp_path / "m.tflite")
        assert left.keys() == set(wanted)


@pytest.mark.slow
def test_the_edge_tpu_takes_the_softmax_of_a_vector_alone(tmp_path):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, layers.Softmax()(layers.Conv2D(3, 1)(inputs)))
    left = quantized(model, (8, 4, 4, 3), tmp_path / "m.tflite")
    assert left == {"SOFTMAX": "of the shape (1, 4, 4, 3), only a vector is taken"}


def test_a_microcontroller_gets_the_file_as_an_array(files, tmp_path):
    report = kopt.export.check(files / "int8.tflite", "tflite-micro", tmp_path)
    array, header, _ = report.written
    text = array.read_text()
    stored = bytes(int(one, 16) for one in re.findall(r"0x([0-9a-f]{2}),", text))
    assert stored == (files / "int8.tflite").read_bytes()
    assert f"int8_length = {len(stored)};" in text
    assert "extern const unsigned char int8[];" in header.read_text()


@pytest.mark.slow
def test_the_array_compiles_to_the_bytes_of_the_file(files, tmp_path):
    array, header, _ = kopt.export.check(
        files / "int8.tflite", "tflite-micro", tmp_path
    ).written
    program = tmp_path / "main.cc"
    program.write_text(
        f'#include "{header.name}"\n#include <cstdio>\n#include <cstdint>\n'
        "int main() {\n"
        "  if (reinterpret_cast<std::uintptr_t>(int8) % 16) return 1;\n"
        "  return std::fwrite(int8, 1, int8_length, stdout) != int8_length;\n}\n"
    )
    made = tmp_path / "made"
    strict = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([*strict, program, array, "-o", made], check=True)
    written = subprocess.run([made], check=True, capture_output=True).stdout
    assert written == (files / "int8.tflite").read_bytes()


def test_a_microcontroller_gets_the_operations_of_the_file(files, tmp_path):
    report = kopt.export.check(files / "int8.tflite", "tflite-micro", tmp_path)
    text = report.written[-1].read_text()
    assert f"MicroMutableOpResolver<{len(report.taken)}>" in text
    assert "resolver.AddConv2D()" in text and "resolver.AddFullyConnected()" in text


def test_the_names_of_the_resolver_s_functions_are_its_own():
    adders = LISTS["tflite-micro"].adders
    # As they stand in micro_mutable_op_resolver.h.
    for name, adder in {
        "BATCH_MATMUL": "AddBatchMatMul",
        "SPACE_TO_BATCH_ND": "AddSpaceToBatchNd",
        "RELU6": "AddRelu6",
        "PADV2": "AddPadV2",
        "SELECT_V2": "AddSelectV2",
        "L2_NORMALIZATION": "AddL2Normalization",
        "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
    }.items():
        assert adders[name] == adder


def test_an_unknown_target_is_refused_with_those_that_are_known(files):
    with pytest.raises(ValueError, match="xnnpack"):
        kopt.export.check(files / "int8.tflite", "toaster")
