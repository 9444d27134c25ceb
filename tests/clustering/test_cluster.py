"""The verb: what is clustered, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.clustering import cluster_weights, clustering_report
from tests.clustering.nets import (
    clustered_mlp,
    data,
    distinct,
    functional,
    layers,
    mlp,
    subclassed,
    train,
    values,
)
from tests.reference import clustering as reference


def everything():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.SeparableConv2D(8, 3)(x)
    x = layers.Conv2DTranspose(4, 2)(x)
    x = layers.Reshape((25, 4))(x)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
    x = layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)], return_sequences=True)(x)
    return keras.Model(inputs, layers.EinsumDense("abc,cde->abde", (None, 2, 2))(x))


def embedding():
    return keras.Sequential([keras.Input((5,)), layers.Embedding(9, 4)])


BUILDS = [everything, embedding, functional, subclassed]


@pytest.mark.parametrize("build", BUILDS)
def test_every_kernel_gets_the_number_of_values(build):
    model = build()
    kernels = [weight.path for weight in clustering_report(model).weights]
    report = clustering_report(cluster_weights(model, 3))
    assert [weight.path for weight in report.weights] == kernels
    assert {(weight.clusters, weight.distinct) for weight in report.weights} == {(3, 3)}


def test_the_model_is_the_same_object_of_the_same_kind():
    model = mlp()
    assert cluster_weights(model, 4) is model
    assert isinstance(model, keras.Sequential)
    assert [layer.name for layer in model.layers] == ["dense", "dense_1"]


def test_it_computes_with_the_nearest_centroids():
    model, (x, _) = mlp(), data()
    before = [layer.kernel.numpy() for layer in model.layers]
    cluster_weights(model, 5, "LINEAR")
    expected = []
    for kernel in before:
        centroids = np.linspace(kernel.min(), kernel.max(), 5)
        expected.append(centroids[reference.assignment(kernel, centroids)])
    hidden = np.tanh(x @ expected[0])
    np.testing.assert_allclose(model(x), hidden @ expected[1], atol=1e-5)
    for kernel, layer in zip(before, model.layers, strict=True):
        np.testing.assert_array_equal(layer.kernel.numpy(), kernel)


def test_k_means_is_what_is_used_by_default():
    first = cluster_weights(mlp(), 4).kopt_clustering.weights[0]
    assert first.settings.initialization.name == "KMEANS_PLUS_PLUS"


def test_each_channel_of_a_convolution_gets_its_own_values():
    model = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3)])
    cluster_weights(model, 5, cluster_per_channel=True)
    (kernel,) = values(model)
    assert [np.unique(channel).size for channel in kernel.T] == [5] * 4
    assert np.unique(kernel).size == 20


def test_layers_can_be_clustered_to_numbers_of_their_own():
    model = mlp()
    cluster_weights(model, 3, layers=["dense"])
    cluster_weights(model, 7, layers=lambda layer: layer.name == "dense_1")
    assert distinct(model) == [3, 7]
    first, second = distinct(train(_compiled(model)))
    assert first <= 3 and second <= 7


def test_a_frozen_layer_is_left_alone():
    model = mlp()
    model.layers[0].trainable = False
    cluster_weights(model, 3)
    assert [one.owner.name for one in model.kopt_clustering.weights] == ["dense_1"]


def test_a_weight_with_no_more_numbers_than_centroids_is_left_alone():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(2)])
    report = clustering_report(cluster_weights(model, 8))
    assert [weight.note for weight in report.weights] == ["", "too small to cluster"]
    assert [weight.clusters for weight in report.weights] == [8, None]


def test_a_weight_of_equal_numbers_has_few_values_after_training():
    model = mlp()
    model.layers[0].kernel.assign(np.zeros((6, 16)))
    cluster_weights(model, 4)
    assert max(distinct(train(_compiled(model)))) <= 4


@pytest.mark.parametrize("pairs", [False, True])
def test_a_layer_can_name_weights_of_its_own(pairs):
    class Scaled(layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=(shape[-1],), name="factor")

        def call(self, x):
            return x * self.factor

        def get_clusterable_weights(self):
            return [("factor", self.factor) if pairs else self.factor]

    model = keras.Sequential([keras.Input((9,)), Scaled()])
    assert distinct(cluster_weights(model, 3)) == [3]


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="Build it first"):
        cluster_weights(keras.Sequential([layers.Dense(3)]), 4)


def test_what_is_no_keras_model_is_refused():
    with pytest.raises(TypeError, match="a Keras 3 model"):
        cluster_weights("model", 4)


def test_nan_weights_are_refused():
    model = mlp()
    model.layers[0].kernel.assign(np.full((6, 16), np.nan))
    with pytest.raises(ValueError, match="NaN or infinite"):
        cluster_weights(model, 4)


@pytest.mark.parametrize(
    ("number", "sparse", "error"),
    [
        (1, False, "at least 2"),
        (0, False, "at least 2"),
        (2, True, "at least 3"),
        (4.0, False, "whole number"),
        (True, False, "whole number"),
    ],
)
def test_a_number_of_clusters_that_makes_no_sense_is_refused(number, sparse, error):
    with pytest.raises((TypeError, ValueError), match=error):
        cluster_weights(mlp(), number, preserve_sparsity=sparse)


def test_an_aggregation_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="'SUM', 'AVG'"):
        cluster_weights(mlp(), 4, cluster_gradient_aggregation="MAX")


def test_weights_that_are_clustered_already_are_named():
    model = clustered_mlp()
    with pytest.raises(ValueError, match=r"clustered already: .*dense/kernel"):
        cluster_weights(model, 4)
    outer = keras.Sequential([keras.Input((6,)), model, layers.Dense(4)])
    with pytest.raises(ValueError, match="clustered already"):
        cluster_weights(outer, 4)


def test_a_model_without_kernels_is_refused_with_what_to_do():
    model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization()])
    with pytest.raises(ValueError, match="get_clusterable_weights"):
        cluster_weights(model, 4)


def test_a_selection_of_nothing_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"left nothing to cluster.*dense_1/kernel"):
        cluster_weights(mlp(), 4, layers=lambda layer: False)
    with pytest.raises(ValueError, match=r"fits none of: .*dense"):
        cluster_weights(mlp(), 4, layers=["conv"])


def test_more_clusters_than_any_weight_has_numbers_are_refused():
    with pytest.raises(ValueError, match="Choose fewer clusters"):
        cluster_weights(mlp(), 96)


def test_a_call_that_is_a_tf_function_is_refused():
    class Traced(layers.Dense):
        @tf.function
        def call(self, x):
            return super().call(x)

    model = keras.Sequential([keras.Input((6,)), Traced(4)])
    with pytest.raises(ValueError, match="Take the decorator away"):
        cluster_weights(model, 4)


def test_what_is_refused_is_left_as_it_was():
    model = mlp()
    with pytest.raises(ValueError):
        cluster_weights(model, 96)
    assert type(model) is keras.Sequential
    assert len(model.weights) == 4


def _compiled(model):
    model.compile(keras.optimizers.Adam(0.05), "mse", run_eagerly=True)
    return model
