"""Canaries: Keras still knows which layer added a loss."""

import keras
import numpy as np

from kopt._keras.caught_losses import add_again
from tests.clustering.nets import layers


def test_losses_of_a_scope_find_the_layers_that_added_them():
    class Penalized(layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.sum(x))
            return x

    inner = Penalized()
    model = keras.Sequential([keras.Input((3,)), Penalized(), inner])
    model(np.ones((1, 3)))
    assert len(model.losses) == 2
    with keras.StatelessScope(collect_losses=True) as scope:
        model(np.ones((1, 3)))
    assert model.losses == []
    add_again(model, scope.losses)
    assert [float(loss) for loss in model.losses] == [3, 3]
    assert [float(loss) for loss in inner.losses] == [3]
