import re

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
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), layers.Conv2D(2, 1), layers.UpSampling2D(2)]
    )
    kopt.export.tflite(model, tmp_path / "model.tflite")
    report = kopt.export.check(tmp_path / "model.tflite", "litert-gpu")
    assert report.left == {"RESIZE_NEAREST_NEIGHBOR": "not in the list"}
    assert kopt.export.check(tmp_path / "model.tflite", "tflite-micro").passed


def test_a_limit_of_an_operation_is_told(tmp_path):
    parts = [keras.Input((2,)) for _ in range(5)]
    model = keras.Model(parts, layers.Dense(2)(layers.Concatenate()(parts)))
    kopt.export.tflite(model, tmp_path / "model.tflite")
    report = kopt.export.check(tmp_path / "model.tflite", "xnnpack")
    assert report.left == {"CONCATENATION": "5 inputs, at most 4 are taken"}


def test_a_microcontroller_gets_the_file_as_an_array(files, tmp_path):
    report = kopt.export.check(files / "int8.tflite", "tflite-micro", tmp_path)
    array, header, _ = report.written
    text = array.read_text()
    stored = bytes(int(one, 16) for one in re.findall(r"0x([0-9a-f]{2}),", text))
    assert stored == (files / "int8.tflite").read_bytes()
    assert f"int8_length = {len(stored)};" in text
    assert "extern const unsigned char int8[];" in header.read_text()


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
