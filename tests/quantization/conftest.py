import keras
import numpy as np
import pytest
from keras import layers


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def rows(random):
    """64 samples of 6 numbers."""
    return random.normal(size=(64, 6)).astype("float32")


@pytest.fixture
def images(random):
    """48 images of 8 x 8 x 3."""
    return random.normal(size=(48, 8, 8, 3)).astype("float32")


@pytest.fixture
def mlp():
    """6 numbers to 3 logits."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(3, name="logits"),
        ],
        name="mlp",
    )


@pytest.fixture
def cnn():
    """Images to 4 probabilities, with what networks have around their convolutions."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.BatchNormalization(name="depthwise_norm"),
            layers.ReLU(max_value=6, name="relu6"),
            layers.MaxPooling2D(name="pool"),
            layers.Dropout(0.25, name="dropout"),
            layers.Conv2D(5, 1, activation="relu", name="pointwise"),
            layers.Flatten(name="flatten"),
            layers.Dense(4, activation="softmax", name="head"),
        ],
        name="cnn",
    )
