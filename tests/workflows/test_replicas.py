"""What kopt does to a model holds on replicas as on one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kopt

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = np.random.default_rng(1).normal(size=(32, 2)).astype("float32")


def pruned(criterion):
    schedule = kopt.pruning.PolynomialDecay(0.0, 0.5, 1, 4, frequency=1)
    return lambda model: kopt.pruning.prune_low_magnitude(
        model, schedule, criterion=criterion
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        pruned("magnitude"),
        pruned(kopt.pruning.Movement()),
        pruned(kopt.pruning.Gradient(X, Y, "mse")),
        lambda model: kopt.clustering.cluster_weights(model, 4),
    ],
    ids=["magnitude", "movement", "gradient", "clusters"],
)
def test_masks_and_centroids_are_those_of_one_device(changed, two_replicas):
    results = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            head = [layers.Dense(8, activation="relu"), layers.Dense(2)]
            model = changed(keras.Sequential([keras.Input((6,)), *head]))
            model.compile(kopt.SGD(0.05, momentum=0.9), "mse")
        model.fit(X, Y, batch_size=16, epochs=3, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(two == 0, one == 0)
        np.testing.assert_allclose(two, one, rtol=0, atol=5e-6)
