"""Small models and data that the clustering tests share."""

import keras
import numpy as np

from kopt import clustering

layers = keras.layers

SAMPLES, FEATURES, OUTPUTS = 48, 6, 3


def mlp():
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(16, activation="tanh"),
            layers.Dense(OUTPUTS),
        ]
    )


def functional():
    inputs, shared = keras.Input((FEATURES,)), layers.Dense(6)
    hidden = shared(shared(inputs)) + keras.Sequential([layers.Dense(6)])(inputs)
    return keras.Model(inputs, layers.Dense(OUTPUTS)(hidden))


@keras.saving.register_keras_serializable("clustering-tests")
class Subclassed(keras.Model):
    """Attention, recurrence, statistics and a nested model, out of sight of a graph."""

    def __init__(self, units=4, **arguments):
        super().__init__(**arguments)
        self.units = units
        self.split = layers.Reshape((3, 2))
        self.attend = layers.MultiHeadAttention(2, units)
        self.norm = layers.BatchNormalization()
        self.remember = layers.GRU(units)
        self.out = keras.Sequential([layers.Dense(OUTPUTS)])

    def call(self, x, training=None):
        x = self.split(x)
        x = self.norm(self.attend(x, x), training=training)
        return self.out(self.remember(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def subclassed():
    model = Subclassed()
    model(np.zeros((1, FEATURES)))
    return model


def data():
    random = np.random.default_rng(5)
    x = random.normal(size=(SAMPLES, FEATURES)).astype("float32")
    y = np.cos(x @ random.normal(size=(FEATURES, OUTPUTS))).astype("float32")
    return x, y


def train(model, epochs=1, batch_size=16):
    """Train without shuffling, three steps an epoch."""
    x, y = data()
    model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return model


def clustered_mlp(**arguments):
    return clustering.cluster_weights(mlp(), 5, "LINEAR", **arguments)


def values(model):
    """What each clustered weight computes with."""
    return [np.asarray(one.values()) for one in model.kopt_clustering.weights]


def distinct(model):
    """How many different values each clustered weight has."""
    return [np.unique(one).size for one in values(model)]


def same(first, second):
    pairs = zip(first.get_weights(), second.get_weights(), strict=True)
    for mine, other in pairs:
        np.testing.assert_array_equal(mine, other)
