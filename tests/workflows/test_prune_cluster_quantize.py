"""Pruning, clustering and quantization on one model, in any order, saved and loaded."""

import keras
import numpy as np
import pytest

from kopt.clustering import cluster_weights, strip_clustering
from kopt.pruning import ConstantSparsity, prune_low_magnitude, strip_pruning
from kopt.quantization import quantize_model, strip_quantization
from tests.clustering.nets import data, distinct, mlp, subclassed, train, values


def at_once():
    return ConstantSparsity(0.5, begin_step=1, end_step=1)


def prune(model):
    return prune_low_magnitude(model, at_once())


def cluster(model):
    return cluster_weights(model, 5, preserve_sparsity=True)


def quantize(model):
    return quantize_model(model, calibration_data=data()[0])


ORDERS = {
    "prune, cluster": (prune, cluster),
    "cluster, prune": (cluster, prune),
    "prune, cluster, quantize": (prune, cluster, quantize),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "order"),
    [
        (mlp, "cluster, prune"),
        (mlp, "prune, cluster, quantize"),
        (subclassed, "prune, cluster, quantize"),
    ],
)
def test_a_loaded_model_goes_on_as_the_saved_one(order, build, tmp_path):
    model = build()
    for verb in ORDERS[order]:
        verb(model)
    eager = build is subclassed  # it takes longer to trace than to train
    model.compile(keras.optimizers.Adam(0.02), "mse", run_eagerly=eager)
    train(model, epochs=1).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    train(loaded, epochs=1), train(model, epochs=1)
    for mine, other in zip(values(loaded), values(model), strict=True):
        np.testing.assert_array_equal(mine, other)
    x, _ = data()
    predictions = loaded.predict(x, verbose=0)
    np.testing.assert_array_equal(predictions, model.predict(x, verbose=0))
    strip_clustering(loaded)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), predictions)


@pytest.mark.parametrize("order", ["prune, cluster", "cluster, prune"])
def test_pruned_zeros_stay_zero_through_clustering(order):
    model = mlp()
    for verb in ORDERS[order]:
        verb(model)
    model.compile(keras.optimizers.Adam(0.05), "mse", run_eagerly=True)
    train(model)
    for weight, used in zip(model.kopt_clustering.weights, values(model), strict=True):
        pruned = weight.variable.numpy() == 0
        assert pruned.mean() == 0.5
        assert (used[pruned] == 0).all()
    assert max(distinct(model)) <= 5


def test_all_that_was_put_on_comes_off_in_any_order():
    verbs = (strip_pruning, strip_clustering, strip_quantization)
    for strips in (verbs, verbs[::-1]):
        model = quantize(cluster(prune(mlp())))
        kernels = values(model)
        for strip in strips:
            strip(model)
        assert type(model) is keras.Sequential
        assert [type(layer) for layer in model.layers] == [keras.layers.Dense] * 2
        assert len(model.weights) == 4
        for layer, kernel in zip(model.layers, kernels, strict=True):
            np.testing.assert_array_equal(layer.kernel, kernel)
