"""Clustering a trained network on scikit-learn's digits: accuracy and file size."""

import gzip

import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.clustering import cluster_weights, clustering_report, strip_clustering
from tests.real.datasets import digits

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def data():
    return digits(image=True)


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def fit(model, data, rate, epochs):
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(*data.train, batch_size=32, epochs=epochs, verbose=0)
    return model


def accuracy(model, data):
    x, y = data.test
    return float(np.mean(model.predict(x, verbose=0).argmax(axis=1) == y))


@pytest.fixture(scope="module")
def trained(data):
    """A trained network's weights and its accuracy."""
    keras.utils.set_random_seed(0)
    model = fit(network(), data, 2e-3, 6)
    return model.get_weights(), accuracy(model, data)


@pytest.fixture
def model(trained):
    model = network()
    model.set_weights(trained[0])
    return model


def compressed(model, tmp_path):
    path = tmp_path / "model.tflite"
    kopt.export.tflite(model, path, verify=False)
    return len(gzip.compress(path.read_bytes()))


@pytest.mark.parametrize(
    ("count", "method", "arguments"),
    [
        (16, "KMEANS_PLUS_PLUS", {}),
        (8, "LINEAR", dict(cluster_per_channel=True)),
    ],
)
def test_few_values_keep_the_accuracy_within_a_point_after_a_little_training(
    model, trained, data, count, method, arguments, tmp_path
):
    assert trained[1] > 0.96
    before = compressed(model, tmp_path)
    cluster_weights(model, count, method, **arguments)
    strip_clustering(fit(model, data, 2e-4, 2))
    assert compressed(model, tmp_path) < before / 3.5
    assert accuracy(model, data) > trained[1] - 0.01
    for weight in clustering_report(model).weights:
        channels = weight.shape[-1] if arguments and len(weight.shape) == 4 else 1
        assert weight.distinct <= count * channels


def channels_of(kernel):
    return np.reshape(kernel, (-1, np.shape(kernel)[-1])).T


def test_pruned_clustered_and_quantized_weights_keep_zeros_and_few_values(
    model, trained, data, tmp_path
):
    at_once = kopt.pruning.ConstantSparsity(0.6, begin_step=1, end_step=1)
    fit(kopt.pruning.prune_low_magnitude(model, at_once), data, 1e-3, 2)
    zeros = [w == 0 for w in model.get_weights() if w.ndim > 1]
    cluster_weights(model, 16, preserve_sparsity=True)
    fit(model, data, 2e-4, 1)
    kopt.pruning.strip_pruning(strip_clustering(model))
    x, _ = data.train
    kopt.quantization.quantize_model(model, calibration_data=x[:200])
    with kopt.quantization.snapped(model):
        kernels = [w for w in model.get_weights() if w.ndim > 1]
    for kernel, zero in zip(kernels, zeros, strict=True):
        assert (kernel[zero] == 0).all()
        assert zero.mean() > 0.55
        # The grid of int8 is that of a channel, and so is the number of its values.
        assert max(np.unique(channel).size for channel in channels_of(kernel)) <= 16
    assert accuracy(model, data) > trained[1] - 0.02


def test_quantization_aware_training_keeps_the_values_few(model, trained, data):
    x, _ = data.train
    cluster_weights(model, 16)
    kopt.quantization.quantize_model(model, calibration_data=x[:200])
    strip_clustering(fit(model, data, 2e-4, 2))
    with kopt.quantization.snapped(model):
        kernels = [w for w in model.get_weights() if w.ndim > 1]
    for kernel in kernels:
        assert max(np.unique(channel).size for channel in channels_of(kernel)) <= 16
    assert accuracy(model, data) > trained[1] - 0.01
