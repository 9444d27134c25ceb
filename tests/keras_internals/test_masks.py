"""Canaries: masks that go with a tensor."""

import keras
import numpy as np

from kopt._keras.masks import set_mask


class Marked(keras.layers.Layer):
    def call(self, inputs):
        outputs = inputs + 1.0
        set_mask(outputs, np.array([[True, False]]))
        return outputs


def test_a_mask_goes_on_to_the_layer_behind():
    pool = keras.layers.GlobalAveragePooling1D()
    values = np.array([[[1.0], [5.0]]], "float32")
    np.testing.assert_allclose(pool(Marked()(values)), [[2.0]])


def test_without_a_mask_nothing_goes_on():
    values = keras.ops.ones((1, 2))
    set_mask(values, None)
    assert keras.ops.shape(values) == (1, 2)
