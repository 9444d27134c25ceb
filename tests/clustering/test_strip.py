"""What is left when clustering is taken off."""

import gzip

import keras
import numpy as np
import pytest

from kopt.clustering import cluster_weights, strip_clustering
from tests.clustering.nets import (
    clustered_mlp,
    data,
    functional,
    mlp,
    subclassed,
    train,
    values,
)


@pytest.mark.parametrize("build", [mlp, functional, subclassed])
def test_the_stripped_model_computes_what_the_clustered_one_did(build):
    model, (x, _) = cluster_weights(build(), 5), data()
    before, used = model(x), values(model)
    paths = [one.variable.path for one in model.kopt_clustering.weights]
    assert strip_clustering(model) is model
    np.testing.assert_array_equal(model(x), before)
    found = {variable.path: variable.numpy() for variable in model.weights}
    for path, kernel in zip(paths, used, strict=True):
        np.testing.assert_array_equal(found[path], kernel)


@pytest.mark.parametrize("build", [mlp, functional, subclassed])
def test_it_is_the_plain_model_that_it_was(build):
    model, plain = build(), build()
    strip_clustering(cluster_weights(model, 5, preserve_sparsity=True))
    assert type(model) is type(plain)
    assert [one.shape for one in model.weights] == [one.shape for one in plain.weights]
    for layer in model._flatten_layers():
        assert "call" not in vars(layer)
        assert not hasattr(layer, "clusters_0")


def test_what_was_traced_before_is_traced_again():
    model, (x, _) = clustered_mlp(), data()
    before = model.predict(x, verbose=0)
    strip_clustering(model)
    model.layers[1].kernel.assign(np.zeros((16, 3)))
    assert (before != 0).all()
    assert (model.predict(x, verbose=0) == 0).all()


def test_a_stripped_model_can_be_clustered_again_and_keeps_its_values():
    model = strip_clustering(clustered_mlp())
    before = [layer.kernel.numpy() for layer in model.layers]
    cluster_weights(model, 5)
    for kernel, used in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(used, kernel)


def test_a_stripped_model_trains_as_a_plain_one():
    model = strip_clustering(clustered_mlp())
    model.compile("sgd", "mse", run_eagerly=True)
    train(model, epochs=1)
    assert np.unique(model.layers[0].kernel).size > 5


def test_a_model_that_is_not_clustered_comes_back_as_it_is():
    model = mlp()
    before = model.get_weights()
    assert strip_clustering(model) is model
    for mine, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="a Keras 3 model"):
        strip_clustering("model")


def test_the_file_is_a_fraction_of_what_it_was_when_it_is_compressed(tmp_path):
    model = keras.Sequential(
        [keras.Input((200,)), keras.layers.Dense(200), keras.layers.Dense(50)]
    )

    def compressed(name):
        model.save(tmp_path / name)
        return len(gzip.compress((tmp_path / name).read_bytes()))

    before = compressed("before.keras")
    strip_clustering(cluster_weights(model, 16))
    after = compressed("after.keras")
    # 4 bits instead of 32, and a little for the file around them.
    assert after < before / 4
