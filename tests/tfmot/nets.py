"""Models of more than one layer, and what the tests of the bridge ask of them."""

import keras
import numpy as np

from tests.tfmot.layers import randomize

L = keras.layers


def shared_and_nested():
    """A layer called twice, a nested model called twice, both inside each other."""
    image = keras.Input((6, 6, 3), name="image")
    shared = L.Conv2D(3, 3, padding="same", name="shared")
    block = keras.Sequential(
        [keras.Input((6, 6, 3)), shared, L.BatchNormalization(), L.ReLU()], name="block"
    )
    side = keras.Input((6, 6, 3))
    branch = keras.Model(side, shared(block(side)), name="branch")
    x = L.Add()([block(image), branch(shared(image))])
    x = L.GlobalAveragePooling2D()(x)
    model = keras.Model(image, L.Dense(2, name="out")(x), name="whole")
    randomize(model)
    return model


def several_inputs_and_outputs():
    words = keras.Input((5,), dtype="int32", name="words")
    more = keras.Input((3,), name="more")
    x = L.Embedding(7, 4, mask_zero=True)(words)
    x, state = L.GRU(3, return_state=True)(x)
    y = L.Concatenate()([x, more * 2.0])
    outputs = {"first": L.Dense(2, "softmax")(y), "second": 1.0 - state}
    model = keras.Model({"words": words, "more": more}, outputs)
    randomize(model)
    return model


def for_several(batch=4):
    random = np.random.default_rng(1)
    words = random.integers(1, 7, (batch, 5)).astype("int32")
    words[:, 3:] = 0
    more = random.normal(size=(batch, 3)).astype("float32")
    return {"words": words, "more": more}


def images(batch=4):
    random = np.random.default_rng(2)
    return random.normal(size=(batch, 6, 6, 3)).astype("float32")


def assert_same(expected, received, tolerance=1e-6):
    keras.tree.assert_same_structure(expected, received)
    pairs = zip(keras.tree.flatten(expected), keras.tree.flatten(received), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance)
