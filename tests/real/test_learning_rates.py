"""LRFinder's suggestion beside other rates, on real photos."""

import keras
import numpy as np
import pytest

import kopt
from tests.real import datasets

pytestmark = [pytest.mark.real, pytest.mark.slow]

RATES = [1e-4, 1e-3, 3e-3, 1e-2, 3e-2]


@pytest.fixture(scope="module")
def photos():
    return datasets.fashion_mnist(train=10_000)


def network(seed):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kopt.Adam(0.001), loss, metrics=["accuracy"])
    return model


def accuracy(photos, rate, seed):
    model = network(seed)
    curve = kopt.callbacks.FitSchedule(kopt.schedules.Cosine(rate, steps=1.0))
    model.fit(*photos.train, 128, epochs=3, verbose=0, callbacks=[curve])
    return model.evaluate(*photos.test, batch_size=1000, verbose=0)[1]


@pytest.mark.parametrize("seed", range(2))
def test_the_suggestion_is_within_a_point_of_the_best_rate(seed, photos):
    finder = kopt.callbacks.LRFinder()
    network(seed).fit(*photos.train, 128, epochs=50, verbose=0, callbacks=[finder])
    best = max(accuracy(photos, rate, seed) for rate in RATES)
    assert accuracy(photos, finder.suggestion, seed) > best - 0.01


def test_a_rate_far_from_the_suggestion_is_worse(photos):
    finder = kopt.callbacks.LRFinder()
    network(0).fit(*photos.train, 128, epochs=50, verbose=0, callbacks=[finder])
    found = [accuracy(photos, finder.suggestion * f, 0) for f in (0.01, 1.0, 30.0)]
    assert np.argmax(found) == 1 and found[1] > max(found[0], found[2]) + 0.01
