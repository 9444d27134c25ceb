"""Files of a network that reads real digits: what it can do, they can do."""

import keras
import numpy as np
import pytest

import kopt
from kopt.export import Interpreter
from tests.real.datasets import digits

pytestmark = [pytest.mark.slow, pytest.mark.real]
SPARSITY = 0.6


@pytest.fixture(scope="module")
def data():
    return digits(image=True)


def trained(data):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    fit(model, data, epochs=12)
    return model


def fit(model, data, epochs):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(*data.train, batch_size=32, epochs=epochs, verbose=0)


@pytest.fixture(scope="module")
def model(data):
    return trained(data)


@pytest.fixture(scope="module")
def compressed(data):
    """Pruned to 60 % zeros, then trained with the rounding of int8 in place."""
    model = trained(data)
    kopt.pruning.prune_low_magnitude(model, kopt.pruning.ConstantSparsity(SPARSITY, 0))
    fit(model, data, epochs=4)
    model = kopt.quantization.quantize_model(model, calibration_data=data.train[0])
    fit(model, data, epochs=2)
    return model


def answers(predictor, data):
    return np.asarray(predictor(data.test[0])).argmax(axis=1)


@pytest.mark.parametrize("quantization", ["float16", "dynamic", "int8", "int16x8"])
def test_every_quantization_reads_as_well_as_the_model(
    model, data, tmp_path, quantization
):
    path = tmp_path / "model.tflite"
    kopt.export.tflite(model, path, quantization, data.train[0][:300])
    labels = data.test[1]
    of_model = np.mean(answers(model, data) == labels)
    of_file = np.mean(answers(Interpreter(path).predict, data) == labels)
    assert of_model > 0.96
    assert of_file > of_model - 0.01


@pytest.mark.parametrize("io_dtype", ["float32", "int8", "uint8"])
def test_the_compressed_file_answers_like_the_compressed_model(
    compressed, data, tmp_path, io_dtype
):
    path = tmp_path / "model.tflite"
    report = kopt.export.tflite(
        compressed, path, io_dtype=io_dtype, verify=data.test[0]
    )
    assert report.argmax_agreement >= 0.99
    assert report.max_lsb <= 3
    found = answers(Interpreter(path).predict, data)
    assert np.mean(found == answers(compressed, data)) == report.argmax_agreement
    assert np.mean(found == data.test[1]) > 0.95


def test_the_compressed_file_is_in_integers_throughout(compressed, tmp_path):
    path = tmp_path / "model.tflite"
    report = kopt.export.tflite(compressed, path, io_dtype="int8")
    assert report.float_tensors == ()
    kinds = {tensor.dtype for tensor in Interpreter(path).tensors}
    assert kinds == {"int8", "int32"}


def test_the_compressed_file_keeps_every_zero(compressed, tmp_path):
    path = tmp_path / "model.tflite"
    kopt.export.tflite(compressed, path, io_dtype="int8")
    stored = {
        tensor.shape: tensor.data
        for tensor in Interpreter(path).tensors
        if tensor.data is not None and tensor.dtype == "int8"
    }
    first, depthwise, dense = (
        weight.numpy() for weight in compressed.trainable_weights if weight.ndim > 1
    )
    for kernel, shape, axes in (
        (first, (16, 3, 3, 1), (3, 0, 1, 2)),
        (depthwise, (1, 3, 3, 16), (3, 0, 1, 2)),
        (dense, (10, 256), (1, 0)),
    ):
        values = stored[shape].reshape(kernel.transpose(axes).shape)
        assert np.mean(kernel == 0) == pytest.approx(SPARSITY, abs=0.01)
        assert (values[kernel.transpose(axes) == 0] == 0).all()
