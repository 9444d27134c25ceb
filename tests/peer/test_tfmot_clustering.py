"""A Keras 3 model is clustered as TensorFlow Model Optimization clusters its twin."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt import clustering
from kopt.clustering._assignment import clustered, nearest
from kopt.clustering._initial_centroids import initial_centroids
from kopt.clustering._rows import Rows
from tests.peer.tfmot import tf_keras, tfmot

pytestmark = pytest.mark.peer

STEPS, BATCH = 30, 8
METHODS = [one.name for one in clustering.CentroidInitialization]
DRAWN = "RANDOM"


def theirs(module):
    """One of their modules, which have no public names for these classes."""
    tfmot()
    path = f"tensorflow_model_optimization.python.core.clustering.keras.{module}"
    return __import__(path, fromlist=["name"])


def kernel(sparse, shape=(3, 3, 7, 5), seed=2):
    random = np.random.default_rng(seed)
    numbers = random.normal(0.05, 0.2, shape).astype("float32")
    return np.where(random.random(shape) < 0.5, 0, numbers) if sparse else numbers


def their_centroids(weight, count, method, per_channel, sparse):
    enum = theirs("cluster_config").CentroidInitialization[method]
    factory = theirs("clustering_centroids").CentroidsInitializerFactory
    initializer = factory.get_centroid_initializer(enum)
    arguments = (per_channel, "channels_last", sparse)
    return initializer(weight, count, *arguments).get_cluster_centroids().numpy()


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("method", [one for one in METHODS if one != DRAWN])
def test_the_first_centroids_are_theirs(method, sparse, per_channel):
    weight = kernel(sparse)
    expected = their_centroids(weight, 8, method, per_channel, sparse)
    rows = Rows(weight.shape, (3,) if per_channel else ())
    kind = clustering.CentroidInitialization[method]
    found = initial_centroids(np.asarray(rows.of(weight)), 8, kind, around_zero=sparse)
    # Theirs come in the order of the draw, and at "density" with rounding errors.
    expected = np.sort(expected.reshape(found.shape), axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    if method != "DENSITY_BASED":
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("aggregation", ["SUM", "AVG"])
@pytest.mark.parametrize("axes", [(), (3,)])
def test_assignment_values_and_gradients_are_theirs(axes, aggregation):
    weight = kernel(sparse=True)
    rows = Rows(weight.shape, axes)
    first = np.random.default_rng(1).normal(0, 0.2, (rows.number, 8)).astype("float32")
    first[:, 3] = first[:, 6]  # equal ones
    algorithms = theirs("clustering_algorithm")
    kind = algorithms.ClusteringAlgorithmPerChannel
    kind = kind if axes else algorithms.ClusteringAlgorithm
    own = tf.Variable(first if axes else first[0])
    variable, upstream = tf.Variable(weight), kernel(False, seed=7)
    algorithm = kind(own, theirs("cluster_config").GradientAggregation[aggregation])
    with tf.GradientTape() as tape:
        index = algorithm.get_pulling_indices(variable)
        expected = algorithm.get_clustered_weight(index, variable)
    expected_gradients = tape.gradient(expected, [variable, own], upstream)
    ours = tf.constant(first)
    with tf.GradientTape() as tape:
        tape.watch(ours)
        found = rows.weight(
            clustered(rows.of(variable), ours, average=aggregation == "AVG")
        )
    gradients = tape.gradient(found, [variable, ours], upstream)
    mine = rows.weight(nearest(rows.of(weight), ours))
    np.testing.assert_array_equal(mine, index)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(gradients[0], expected_gradients[0])
    other = tf.convert_to_tensor(expected_gradients[1])
    np.testing.assert_allclose(
        gradients[1], tf.reshape(other, gradients[1].shape), rtol=1e-5, atol=1e-6
    )


def net(library):
    layers = library.layers
    return library.Sequential(
        [
            library.Input((16,)),
            layers.Reshape((4, 4, 1)),
            layers.Conv2D(6, 3, activation="tanh"),
            layers.Flatten(),
            layers.Dense(10, activation="tanh"),
            layers.Dense(4),
        ]
    )


def data():
    random = np.random.default_rng(3)
    x = random.normal(size=(STEPS * BATCH, 16)).astype("float32")
    y = np.sin(x @ random.normal(size=(16, 4))).astype("float32")
    return x, y


def twins(method, sparse=False, per_channel=False, aggregation="SUM"):
    """The same network, clustered by both in the same way."""
    keras.utils.set_random_seed(11)
    ours, other = net(keras), net(tf_keras())
    if sparse:
        ours.set_weights([kernel(w.ndim > 1, w.shape) for w in ours.get_weights()])
    other.set_weights(ours.get_weights())
    clustering.cluster_weights(
        ours, 6, method, sparse, per_channel, cluster_gradient_aggregation=aggregation
    )
    config = theirs("cluster_config")
    other = theirs("cluster")._cluster_weights(
        other,
        6,
        config.CentroidInitialization[method],
        preserve_sparsity=sparse,
        cluster_per_channel=per_channel,
        cluster_gradient_aggregation=config.GradientAggregation[aggregation],
    )
    return ours, other


def train(model, optimizer, **arguments):
    model.compile(optimizer, "mse", **arguments)
    x, y = data()
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)


def their_variables(model):
    """The centroids and the weights behind them, weight by weight."""
    wrapped = [layer for layer in model.layers if hasattr(layer, "cluster_centroids")]
    return [
        (layer.cluster_centroids[name], layer.original_clusterable_weights[name])
        for layer in wrapped
        for name in layer.cluster_centroids
    ]


CASES = {
    "linear": dict(method="LINEAR"),
    "per channel": dict(method="LINEAR", per_channel=True),
    "mean gradients": dict(method="LINEAR", aggregation="AVG"),
    "sparsity kept": dict(method="LINEAR", sparse=True),
    "k-means++": dict(method="KMEANS_PLUS_PLUS"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "optimizer"),
    [*((case, "SGD") for case in CASES if case != "k-means++"), ("k-means++", "Adam")],
)
def test_centroids_and_weights_stay_theirs_for_30_steps(case, optimizer):
    ours, other = twins(**CASES[case])
    x, _ = data()
    before = ours.predict(x, verbose=0)
    np.testing.assert_allclose(other.predict(x, verbose=0), before, atol=1e-6)
    start = [one.centroids.centroids.numpy() for one in ours.kopt_clustering.weights]
    train(ours, getattr(keras.optimizers, optimizer)(0.01))
    # Theirs takes longer to become a graph than to train.
    train(other, getattr(tf_keras().optimizers, optimizer)(0.01), run_eagerly=True)
    theirs_in_the_end = tfmot().clustering.keras.strip_clustering(other)
    pairs = zip(
        ours.kopt_clustering.weights, start, their_variables(other), strict=True
    )
    for weight, first, (centroids, numbers) in pairs:
        found = weight.centroids.centroids.numpy()
        assert np.abs(found - first).max() > 1e-3
        np.testing.assert_allclose(
            np.sort(found), np.sort(np.ravel(centroids)), rtol=0, atol=1e-6
        )
        if "sparse" not in CASES[case]:
            np.testing.assert_allclose(
                weight.variable.numpy(), numbers.numpy(), rtol=0, atol=1e-6
            )
    clustering.strip_clustering(ours)
    stripped = zip(ours.get_weights(), theirs_in_the_end.get_weights(), strict=True)
    for mine, their in stripped:
        np.testing.assert_allclose(mine, their, rtol=0, atol=1e-6)


def test_their_enums_are_taken():
    keras_ = tfmot().clustering.keras
    for method in METHODS:
        theirs_ = keras_.CentroidInitialization[method]
        assert clustering.CentroidInitialization[method] == theirs_
        model = clustering.cluster_weights(net(keras), 4, theirs_)
        first = model.kopt_clustering.weights[0]
        assert first.settings.initialization.name == method
    average = theirs("cluster_config").GradientAggregation.AVG
    clustering.cluster_weights(net(keras), 4, cluster_gradient_aggregation=average)


def test_their_model_is_refused_with_what_to_do():
    with pytest.raises(TypeError, match="older tf_keras"):
        clustering.cluster_weights(net(tf_keras()), 4)
