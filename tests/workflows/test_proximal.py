"""Zeros of a proximal penalty, from training to a smaller model and a file."""

import keras
import numpy as np
import pytest

import kopt
from kopt.regularizers import L1, GroupLasso

layers = keras.layers
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(256, 8, 8, 1)).astype("float32")
# Whether the left half is brighter than the right one: a few filters will do.
Y = (X[:, :, :4].mean((1, 2, 3)) > X[:, :, 4:].mean((1, 2, 3))).astype("int32")


@pytest.fixture(scope="module")
def filters():
    """A trained model, some of whose filters and many of whose weights are zero."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, activation="relu", name="filters"),
            layers.Flatten(),
            layers.Dense(2, name="head", kernel_regularizer=L1(2e-3, proximal=True)),
        ]
    )
    rules = {"filters": GroupLasso(1e-2, proximal=True)}
    kopt.regularizers.apply(model, rules)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        kopt.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"], jit_compile=False
    )
    model.fit(X, Y, batch_size=32, epochs=25, verbose=0)
    return model


def empty_filters(model):
    kernel = model.get_layer("filters").kernel.numpy()
    return (kernel == 0).all(axis=(0, 1, 2))


def zeros(model):
    return [w.numpy() == 0 for w in model.weights if w.name == "kernel"]


def test_whole_filters_are_empty_and_the_others_full(filters):
    empty = empty_filters(filters)
    assert 4 <= empty.sum() <= 14
    kernel = filters.get_layer("filters").kernel.numpy()
    assert (kernel[..., ~empty] != 0).all()
    assert filters.evaluate(X, Y, verbose=0)[1] > 0.9
    assert 0.2 < (filters.get_layer("head").kernel.numpy() == 0).mean() < 1


def test_remove_filters_takes_out_what_it_empties(filters):
    smaller = kopt.pruning.remove_filters(filters)
    left = (~empty_filters(filters)).sum()
    assert smaller.get_layer("filters").filters <= left
    assert smaller.count_params() < 0.7 * filters.count_params()
    np.testing.assert_allclose(
        smaller.predict(X, verbose=0), filters.predict(X, verbose=0), atol=1e-5
    )


def test_zeros_and_penalty_survive_a_file(filters, tmp_path):
    filters.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(zeros(filters), zeros(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.get_layer("filters").kernel_regularizer.proximal
    again.fit(X, Y, batch_size=32, verbose=0)
    # They may come back one by one, not all at once.
    assert empty_filters(again).sum() >= empty_filters(filters).sum() - 3


def test_zeros_survive_quantization_and_the_file(filters, tmp_path):
    copy = keras.models.clone_model(filters)
    copy.set_weights(filters.get_weights())
    quantized = kopt.quantization.quantize_model(copy, calibration_data=X)
    path = tmp_path / "model.tflite"
    report = kopt.export.tflite(quantized, path)
    assert report.zeros.zeros >= sum(int(zero.sum()) for zero in zeros(filters))
    back = keras.models.clone_model(filters)
    kopt.export.dequantize(path).load_into(back)
    for weight, zero in zip(back.weights[::2], zeros(filters), strict=True):
        assert (weight.numpy()[zero] == 0).all()
        assert (weight.numpy() != 0).any()
