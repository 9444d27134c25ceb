"""Centroids and assignments are trained in every way of training."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.clustering import cluster_weights
from tests.clustering.nets import (
    clustered_mlp,
    data,
    distinct,
    layers,
    mlp,
    train,
    values,
)

optimizers = keras.optimizers

OPTIMIZERS = {
    "Keras Adam": lambda: optimizers.Adam(0.01),
    "Keras AdamW": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "moving averages": lambda: optimizers.Adam(0.01, use_ema=True),
    "loss scaling": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.01)),
    "accumulation": lambda: optimizers.SGD(0.01, gradient_accumulation_steps=3),
    "kopt Adam": lambda: kopt.Adam(0.01),
    "kopt Lion": lambda: kopt.Lion(0.001),
    "kopt Muon": lambda: kopt.Muon(0.001),
    "kopt Lookahead": lambda: kopt.Lookahead(kopt.SGD(0.01)),
}


def centroids(model):
    return [one.centroids.centroids.numpy() for one in model.kopt_clustering.weights]


QUICK = ("Keras Adam",)


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in OPTIMIZERS
    ],
)
def test_every_optimizer_moves_centroids_and_keeps_their_number(name):
    model = clustered_mlp()
    first = centroids(model)
    # Keras's loss scaling is not for eager training.
    model.compile(OPTIMIZERS[name](), "mse", run_eagerly=name in QUICK)
    train(model, batch_size=8)
    for moved, start in zip(centroids(model), first, strict=True):
        assert (moved != start).any()
    assert max(distinct(model)) <= 5


def test_a_number_can_move_to_another_centroid():
    model = clustered_mlp()
    weight = model.kopt_clustering.weights[0]
    before = np.unique(weight.values(), return_inverse=True)[1]
    model.compile(optimizers.SGD(0.2), "mse", run_eagerly=True)
    train(model)
    after = np.unique(weight.values(), return_inverse=True)[1]
    assert (before != after).any()


WAYS = [
    dict(jit_compile=True),
    dict(run_eagerly=True),
    dict(jit_compile=False, steps_per_execution=3),
]


@pytest.mark.slow
def test_all_ways_of_compiling_give_the_same_weights():
    def trained(**arguments):
        keras.utils.set_random_seed(1)
        model = clustered_mlp()
        model.compile(optimizers.SGD(0.01), "mse", **arguments)
        return train(model, epochs=1)

    expected = trained(jit_compile=False)
    for arguments in WAYS:
        found = trained(**arguments)
        pairs = zip(found.get_weights(), expected.get_weights(), strict=True)
        for mine, other in pairs:
            np.testing.assert_allclose(mine, other, atol=1e-5)


@pytest.mark.parametrize("aggregation", ["SUM", "AVG"])
def test_a_loop_of_ones_own_gets_both_gradients(aggregation):
    model, (x, y) = clustered_mlp(cluster_gradient_aggregation=aggregation), data()
    used = values(model)
    plain = mlp()
    plain.set_weights([used[0], np.zeros(16), used[1], np.zeros(3)])

    def gradients(one):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((one(x, training=True) - y) ** 2)
        variables = one.trainable_variables
        found = tape.gradient(loss, variables)
        return {v.path: g for v, g in zip(variables, found, strict=True)}

    expected, found = gradients(plain), gradients(model)
    kernels = [plain.layers[0].kernel.path, plain.layers[1].kernel.path]
    for weight, path in zip(model.kopt_clustering.weights, kernels, strict=True):
        upstream = expected[path].numpy()
        np.testing.assert_allclose(found[weight.variable.path], upstream, atol=1e-6)
        own = weight.centroids.centroids
        members = [weight.values().numpy() == centroid for centroid in own.numpy()]
        reduce = np.sum if aggregation == "SUM" else np.mean
        sums = [reduce(upstream[one]) for one in members]
        np.testing.assert_allclose(found[own.path], sums, atol=1e-6)


def test_zeros_stay_zero_where_sparsity_is_kept():
    model = mlp()
    for layer in model.layers:
        kernel = layer.kernel.numpy()
        layer.kernel.assign(np.where(np.abs(kernel) < 0.2, 0, kernel))
    pruned = [layer.kernel.numpy() == 0 for layer in model.layers]
    cluster_weights(model, 5, preserve_sparsity=True)
    model.compile(optimizers.Adam(0.05), "mse", run_eagerly=True)
    train(model)
    for zeros, kernel in zip(pruned, values(model), strict=True):
        assert zeros.any() and (kernel[zeros] == 0).all()
        assert 3 <= np.unique(kernel).size <= 5
        assert np.mean(kernel == 0) < 0.9


def test_without_it_zeros_are_lost():
    model = mlp()
    kernel = model.layers[0].kernel
    kernel.assign(np.where(np.abs(kernel.numpy()) < 0.2, 0, kernel.numpy()))
    assert (values(cluster_weights(model, 4, "LINEAR"))[0] != 0).all()


def test_a_layer_that_is_frozen_later_keeps_its_centroids():
    model = clustered_mlp()
    model.layers[0].trainable = False
    first = centroids(model)
    model.compile(optimizers.SGD(0.1), "mse", run_eagerly=True)
    train(model, epochs=1)
    after = centroids(model)
    np.testing.assert_array_equal(after[0], first[0])
    assert (after[1] != first[1]).any()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_weights_of_half_precision_are_clustered(policy):
    keras.config.set_dtype_policy(policy)
    model = clustered_mlp()
    model.compile(optimizers.SGD(0.05), "mse", run_eagerly=True)
    first = centroids(model)
    train(model, epochs=1)
    for weight, start in zip(model.kopt_clustering.weights, first, strict=True):
        assert weight.values().dtype == weight.variable.dtype
        assert weight.centroids.centroids.dtype == "float32"
        assert (weight.centroids.centroids.numpy() != start).any()
    assert max(np.unique(np.float32(one)).size for one in values(model)) <= 5


@pytest.mark.slow
def test_two_replicas_train_as_one(two_replicas):
    def trained(scope):
        keras.utils.set_random_seed(1)
        with scope:
            model = clustered_mlp(preserve_sparsity=True)
            model.compile(optimizers.SGD(0.05), "mse")
        return train(model, epochs=1).get_weights()

    expected = trained(contextlib.nullcontext())
    found = trained(two_replicas.scope())
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


@pytest.mark.slow
def test_sharpness_aware_training_takes_a_clustered_model():
    model = kopt.sharpness_aware(clustered_mlp(), rho=0.05)
    model.compile(optimizers.SGD(0.05), "mse")
    (x, y), before = data(), centroids(model)
    first = model.evaluate(x, y, verbose=0)
    train(model)
    assert model.evaluate(x, y, verbose=0) < first
    assert (centroids(model)[0] != before[0]).any()


def test_an_optimizer_of_before_says_that_it_does_not_know_the_centroids():
    model = mlp()
    model.compile("adam", "mse", run_eagerly=True)
    train(model, epochs=1)
    cluster_weights(model, 4)
    model.evaluate(*data(), verbose=0)
    with pytest.raises(ValueError, match=r"Unknown variable: .*centroids"):
        train(model, epochs=1)


def test_one_shared_weight_gets_the_gradients_of_all_its_uses():
    shared, inputs = layers.Dense(6, use_bias=False), keras.Input((6,))
    model = cluster_weights(keras.Model(inputs, shared(shared(inputs))), 3)
    (weight,), (x, _) = model.kopt_clustering.weights, data()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x))
    found = tape.gradient(loss, weight.variable.value)
    kernel = weight.values().numpy()
    ones = np.ones((len(x), 6))
    expected = x.T @ (ones @ kernel.T) + (x @ kernel).T @ ones
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
