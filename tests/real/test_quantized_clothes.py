"""An int8 file against the quantization-aware model it was made of, on real photos."""

import keras
import numpy as np
import pytest

import kopt
from tests.real import datasets

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A report, what the model returns for all test images, and its file."""
    keras.utils.set_random_seed(0)
    data, layers = datasets.fashion_mnist(train=4_000), keras.layers
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (8, 16):
        model.add(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.Flatten())
    model.add(layers.Dense(10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(*data.train, batch_size=64, epochs=2, verbose=0)
    kopt.quantization.quantize_model(model, calibration_data=data.train[0][:256])
    model.compile(keras.optimizers.Adam(3e-4), loss)
    model.fit(*data.train, batch_size=64, epochs=1, verbose=0)
    path = tmp_path_factory.mktemp("clothes") / "clothes.tflite"
    report = kopt.export.tflite(model, path, verify=False)
    # The export looks at 1,000 samples at most.
    expected = model.predict(data.test[0], batch_size=500, verbose=0)
    return report, expected, kopt.export.Interpreter(path)


@pytest.fixture(scope="module")
def logits(exported):
    """Of the model and of the file, in integer steps of the file's output."""
    _, expected, file = exported
    received = file.predict(datasets.fashion_mnist(train=1).test[0])
    assert len(received) == 10_000
    step = np.ptp(expected) / 255
    return expected / step, received / step


def test_no_logit_of_the_file_is_more_than_three_steps_off(logits):
    expected, received = logits
    assert 0 < np.abs(received - expected).max() <= 3


def test_the_file_names_the_class_that_the_model_names(logits):
    expected, received = logits
    assert np.mean(expected.argmax(axis=1) == received.argmax(axis=1)) >= 0.995


def test_the_file_computes_in_integers_alone(exported):
    assert exported[0].float_tensors == ()
