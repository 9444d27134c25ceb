"""Clustered models are saved, loaded and go on as if they had never stopped."""

import copy
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.clustering import cluster_weights, strip_clustering
from tests.clustering.nets import (
    clustered_mlp,
    data,
    distinct,
    functional,
    layers,
    mlp,
    same,
    subclassed,
    train,
    values,
)

BUILDS = [
    mlp,
    *(
        pytest.param(build, marks=pytest.mark.slow)
        for build in (functional, subclassed)
    ),
]


@pytest.mark.parametrize("build", BUILDS)
def test_training_goes_on_bit_for_bit_after_loading(build, tmp_path):
    model = cluster_weights(build(), 5, preserve_sparsity=True)
    # Without graphs: tracing takes longer than training.
    model.compile(keras.optimizers.Adam(0.02), "mse", run_eagerly=True)
    train(model, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, type(build()))
    same(train(loaded, epochs=1), train(model, epochs=1))
    for mine, other in zip(values(loaded), values(model), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_every_setting_comes_back(tmp_path):
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.Dense(4), layers.Dense(5)]
    )
    arguments = dict(cluster_per_channel=True, cluster_gradient_aggregation="AVG")
    cluster_weights(model, 3, "RANDOM", True, layers=["conv2d"], **arguments)
    cluster_weights(model, 12, layers=["dense.*"])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").kopt_clustering
    own = model.kopt_clustering
    assert [one.settings for one in loaded.weights] == [
        one.settings for one in own.weights
    ]
    assert [one.shape for one in loaded.too_small] == [(3, 4)]
    assert [one.shape for one in own.too_small] == [(3, 4)]


def test_a_weights_file_brings_the_centroids_along(tmp_path):
    def fresh():
        keras.utils.set_random_seed(1)
        model = clustered_mlp()
        model.compile("sgd", "mse", run_eagerly=True)
        return model

    model = train(fresh(), epochs=1)
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = fresh()
    loaded.load_weights(tmp_path / "model.weights.h5")
    same(loaded, model)


def test_weights_of_a_clustered_model_load_into_a_plain_one(tmp_path):
    clustered, plain = clustered_mlp(), mlp()
    clustered.save_weights(tmp_path / "model.weights.h5")
    plain.load_weights(tmp_path / "model.weights.h5")
    for mine, other in zip(plain.layers, clustered.layers, strict=True):
        np.testing.assert_array_equal(mine.kernel, other.kernel)


def test_weights_without_centroids_are_refused_with_what_to_do(tmp_path):
    mlp().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match="no centroids"):
        clustered_mlp().load_weights(tmp_path / "model.weights.h5")


def test_a_clustered_model_inside_another_is_saved_with_it(tmp_path):
    inner = clustered_mlp()
    outer = keras.Sequential([keras.Input((6,)), inner, layers.Dense(3)])
    outer.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x, _ = data()
    np.testing.assert_array_equal(loaded(x), outer(x))
    assert distinct(loaded.layers[0]) == distinct(inner) == [5, 5]


def test_a_clone_is_a_plain_model():
    clone = keras.models.clone_model(clustered_mlp())
    assert type(clone) is keras.Sequential
    assert len(clone.weights) == 4
    assert "call" not in vars(clone)


def test_a_deep_copy_is_a_clustered_model_of_its_own():
    model, (x, _) = clustered_mlp(), data()
    twin = copy.deepcopy(model)
    np.testing.assert_array_equal(twin(x), model(x))
    strip_clustering(twin)
    assert distinct(model) == [5, 5]


def test_a_checkpoint_of_tensorflow_brings_the_centroids_along(tmp_path):
    model = clustered_mlp()
    model.compile("sgd", "mse", run_eagerly=True)
    train(model, epochs=1)
    saved = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    loaded = clustered_mlp()
    tf.train.Checkpoint(model=loaded).restore(saved)
    same(loaded, model)


def in_a_fresh_process(code, *arguments):
    program = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_a_fresh_process_loads_a_clustered_model_and_goes_on(tmp_path):
    model = cluster_weights(functional(), 5)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    train(model, epochs=1)
    model.save(tmp_path / "model.keras")
    x, y = data()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    in_a_fresh_process(
        """
        import sys, numpy as np, keras, kopt
        model = keras.saving.load_model(sys.argv[1] + "/model.keras")
        data = np.load(sys.argv[1] + "/data.npz")
        options = dict(batch_size=16, epochs=1, shuffle=False, verbose=0)
        model.fit(data["x"], data["y"], **options)
        kopt.clustering.strip_clustering(model)
        np.save(sys.argv[1] + "/found.npy", model.predict(data["x"], verbose=0))
        """,
        tmp_path,
    )
    train(model, epochs=1)
    expected = strip_clustering(model).predict(x, verbose=0)
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)


@pytest.mark.slow
def test_a_stripped_model_loads_without_kopt(tmp_path):
    model = strip_clustering(cluster_weights(functional(), 4))
    model.save(tmp_path / "model.keras")
    printed = in_a_fresh_process(
        """
        import sys, keras, numpy as np
        model = keras.saving.load_model(sys.argv[1])
        found = [np.unique(w.numpy()).size for w in model.weights if w.ndim > 1]
        print(*found, "kopt" in sys.modules)
        """,
        tmp_path / "model.keras",
    )
    assert printed == ["4", "4", "4", "False"]
