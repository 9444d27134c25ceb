"""Canaries: variables can be read as they are stored."""

import numpy as np
import tensorflow as tf

from kopt._keras.autocast import uncast
from tests.clustering.nets import layers


def test_variables_read_in_their_own_type_inside_mixed_precision():
    seen = []

    class Spy(layers.Dense):
        def call(self, x):
            seen.append(self.kernel.value.dtype)
            with uncast():
                seen.append(self.kernel.value.dtype)
            return super().call(x)

    Spy(2, dtype="mixed_float16")(np.ones((1, 3)))
    # Once more for the shapes, where Keras builds the layer.
    assert set(zip(seen[::2], seen[1::2], strict=True)) == {(tf.float16, tf.float32)}
