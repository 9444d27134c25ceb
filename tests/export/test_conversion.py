import keras
import numpy as np
import pytest

import kopt
from kopt._signature import signature_of
from kopt.export import ConversionError, Interpreter, _conversion, _trace
from kopt.export._conversion import Settings


class AlwaysRolled(keras.layers.LSTM):
    """A recurrent layer that nothing unrolls."""

    unroll = property(lambda self: False, lambda self, value: None)


@pytest.fixture
def looping():
    return keras.Sequential([keras.Input((3, 2)), AlwaysRolled(4)])


def operations_of(model, folder):
    signature = signature_of(model).with_batch(1)
    return _trace.write_saved_model(signature, folder).operations


@pytest.mark.parametrize("quantization", [None, "float16", "dynamic", "int8"])
def test_plain_networks_are_converted_here(tiny, tmp_path, quantization):
    operations = operations_of(tiny, tmp_path)
    assert not _conversion.is_risky(operations, Settings(quantization))


def test_a_recurrent_network_is_converted_here_in_float(tmp_path):
    model = keras.Sequential([keras.Input((4, 2)), keras.layers.GRU(3)])
    signature = signature_of(model).with_batch(1)
    operations = _trace.write_for_converter(signature, tmp_path).operations
    assert not _conversion.is_risky(operations, Settings(None))
    # As a loop it would end the converter.
    assert _conversion.is_risky(operations, Settings("int8"))


def test_attention_is_converted_here(tmp_path):
    inputs = keras.Input((6, 4))
    attended = keras.layers.MultiHeadAttention(2, 2)(
        inputs, inputs, use_causal_mask=True
    )
    model = keras.Model(inputs, keras.layers.LayerNormalization()(attended))
    assert not _conversion.is_risky(operations_of(model, tmp_path), Settings("int8"))


def test_loops_are_a_risk_for_integers_alone(looping, tmp_path):
    operations = operations_of(looping, tmp_path)
    assert _conversion.is_risky(operations, Settings("int8"))
    assert _conversion.is_risky(operations, Settings("int16x8"))
    assert not _conversion.is_risky(operations, Settings("float16"))


def test_operations_that_nobody_tried_are_a_risk():
    assert _conversion.is_risky({"Const", "OperationOfTomorrow"}, Settings())


def test_the_last_calibration_batch_is_filled_with_the_first_samples():
    batches = _conversion._batches({"x": np.arange(5)}, 2)()
    assert [batch["x"].tolist() for batch in batches] == [[0, 1], [2, 3], [4, 0]]


@pytest.mark.slow
def test_a_crash_of_the_converter_is_an_error(looping, random, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")
    with pytest.raises(ConversionError, match=r"crashed \(signal SIG"):
        kopt.export.tflite(looping, path, "int8", random.normal(size=(20, 3, 2)))
    assert path.read_bytes() == b"old"


@pytest.mark.slow
def test_an_isolated_conversion_gives_the_same_file(tiny, images, tmp_path):
    here, there = tmp_path / "here.tflite", tmp_path / "there.tflite"
    kopt.export.tflite(tiny, here, "int8", images, batch_size=3)
    report = kopt.export.tflite(tiny, there, "int8", images, batch_size=3, isolate=True)
    assert report.isolated
    found = Interpreter(there).predict(images)
    np.testing.assert_array_equal(found, Interpreter(here).predict(images))


@pytest.mark.slow
def test_a_refusal_comes_back_from_the_other_process(tmp_path):
    class Determinant(keras.layers.Layer):
        def call(self, inputs):
            return keras.ops.det(inputs)

    model = keras.Sequential(
        [keras.Input((3, 3)), keras.layers.Dense(3), Determinant()]
    )
    with pytest.raises(ConversionError, match=r"refused.*MatrixDeterminant"):
        kopt.export.tflite(model, tmp_path / "model.tflite")
