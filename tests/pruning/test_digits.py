"""Pruning a trained network on scikit-learn's digits."""

import keras
import numpy as np
import pytest
from keras import layers

from kopt.pruning import (
    PolynomialDecay,
    prune_low_magnitude,
    sparsity_report,
    strip_pruning,
)
from tests.pruning.nets import at_once
from tests.real.datasets import digits

pytestmark = [pytest.mark.real, pytest.mark.slow]

BATCH, EPOCHS = 32, 8


@pytest.fixture(scope="module")
def data():
    return digits(image=True)


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", use_bias=False, name="wide"),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu", name="deep"),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def fit(model, data):
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(*data.train, batch_size=BATCH, epochs=EPOCHS, verbose=0)


def accuracy(model, data):
    x, y = data.test
    return float(np.mean(model.predict(x, verbose=0).argmax(axis=1) == y))


@pytest.fixture(scope="module")
def trained(data):
    """A trained network's weights and its accuracy."""
    keras.utils.set_random_seed(0)
    model = network()
    fit(model, data)
    return model.get_weights(), accuracy(model, data)


@pytest.fixture
def model(trained):
    model = network()
    model.set_weights(trained[0])
    return model


def gradual(data):
    steps = EPOCHS * -(-len(data.train[0]) // BATCH)
    return PolynomialDecay(0.2, 0.8, 0, steps // 20 * 10, frequency=10)


@pytest.mark.parametrize(
    "pattern",
    [
        {},
        dict(scope="global"),
        dict(block_size=(4, 1), layers=["wide", "deep", "hidden"]),
    ],
    ids=["local", "global", "blocks"],
)
def test_80_percent_go_and_the_accuracy_stays_within_2_points(
    model, trained, data, pattern
):
    assert trained[1] > 0.96
    prune_low_magnitude(model, gradual(data), **pattern)
    fit(model, data)
    pruned = [weight for weight in sparsity_report(model).weights if weight.pruned]
    zeros = sum(weight.zeros for weight in pruned)
    assert zeros / sum(weight.size for weight in pruned) == pytest.approx(0.8, abs=1e-3)
    assert accuracy(model, data) > trained[1] - 0.02


def test_pruning_without_training_costs_more_than_that(model, trained, data):
    prune_low_magnitude(model, at_once(0.8))
    assert accuracy(model, data) < trained[1] - 0.02


def test_zeros_and_answers_survive_stripping_and_a_file(model, data, tmp_path):
    prune_low_magnitude(model, gradual(data))
    fit(model, data)
    x, _ = data.test
    answers, zeros = model.predict(x, verbose=0), sparsity_report(model).zeros
    strip_pruning(model).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert sparsity_report(loaded).zeros == zeros
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), answers)
