import keras
import numpy as np
import pytest


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tiny_model():
    """Makes a convolutional classifier of 8 x 8 images, quick to convert."""

    def make():
        return keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(4, 3, use_bias=False),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.Flatten(),
                keras.layers.Dense(3, name="scores"),
            ]
        )

    return make


@pytest.fixture
def tiny(tiny_model):
    return tiny_model()


@pytest.fixture
def images(random):
    return random.normal(size=(40, 8, 8, 1)).astype("float32")


@pytest.fixture
def two_by_two():
    """Two inputs and two outputs, none in alphabetical order."""
    wide = keras.Input((6,), name="wide")
    deep = keras.Input((6,), name="deep")
    joined = keras.layers.Subtract()([wide, deep])
    outputs = [
        keras.layers.Dense(3, name="zebra")(joined),
        keras.layers.Dense(1, name="ant")(wide),
    ]
    return keras.Model([wide, deep], outputs)
