"""Pruning, clustering and quantization on one model, in any order, saved and loaded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.clustering import cluster_weights, strip_clustering
from kopt.export import Interpreter, saved_model, tflite
from kopt.pruning import ConstantSparsity, prune_low_magnitude, strip_pruning
from kopt.quantization import (
    correct_bias,
    equalize,
    quantize_model,
    snapped,
    strip_quantization,
)
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


def drifted(model):
    """As training leaves it: the weights are no longer where their centroids are."""
    for weight in model.kopt_clustering.weights:
        noise = np.random.default_rng(3).normal(size=weight.variable.shape)
        weight.variable.assign_add(0.2 * noise * (weight.variable.numpy() != 0))
    return model


def stored_kernels(path):
    """The kernels of a file, as they are stored, a row an output channel."""
    shapes = [(16, 6), (3, 16)]
    found = {one.shape: one.data for one in Interpreter(path).tensors if one.name}
    return [found[shape] for shape in shapes]


@pytest.mark.parametrize(
    ("verbs", "quantization"),
    [
        ((prune, cluster), "int8"),
        ((prune, cluster, quantize), None),
        ((quantize, prune, cluster), None),
    ],
)
def test_a_file_of_integers_has_clusters_and_zeros_without_any_strip(
    verbs, quantization, tmp_path
):
    model = mlp()
    for verb in verbs:
        verb(model)
    used, before = values(drifted(model)), model.get_weights()
    path = tmp_path / "model.tflite"
    report = tflite(model, path, quantization, data()[0])
    # Nothing but plain kernels: the converter has no look-up to die of.
    assert report.verified and not report.isolated
    for rows, kernel in zip(stored_kernels(path), used, strict=True):
        assert rows.dtype == "int8"
        assert max(np.unique(row).size for row in rows) <= 5
        assert np.mean(kernel == 0) >= 0.5
        assert (rows[kernel.T == 0] == 0).all()
    for mine, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_saved_model_of_a_clustered_model_is_a_plain_one(tmp_path):
    model = drifted(cluster(mlp()))
    saved_model(model, tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    # The operation of a search among borders.
    assert "LowerBound" not in str(graph)
    np.testing.assert_allclose(loaded.serve(data()[0]), model(data()[0]), atol=1e-6)


def test_clustered_weights_lie_on_their_grids_as_the_model_has_them():
    model, (x, _) = drifted(quantize(cluster(mlp()))), data()
    outside, used = model(x), values(model)
    with snapped(model):
        np.testing.assert_allclose(model(x), outside, atol=1e-6)
        for layer, kernel in zip(model.layers, used, strict=True):
            step = np.abs(kernel).max(axis=0) / 127
            assert (np.abs(layer.kernel - kernel) <= 0.501 * step).all()


@pytest.mark.parametrize("verb", [equalize, lambda m: correct_bias(m, data()[0])])
def test_what_works_on_weights_asks_for_the_strip(verb):
    with pytest.raises(ValueError, match="after `strip_clustering`"):
        verb(cluster(mlp()))
