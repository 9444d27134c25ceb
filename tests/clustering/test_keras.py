"""Canaries: Keras's private names still mean what clustering takes them to mean."""

import keras
import numpy as np
import tensorflow as tf

from kopt._weights import nested_layers
from kopt.clustering import _keras
from tests.clustering.nets import layers, mlp


def test_a_built_layer_takes_a_part_and_gives_it_back():
    layer = mlp().layers[0]
    part = layers.Dense(2)
    part.build((3,))
    _keras.add_sublayer(layer, "part", part)
    assert layer.part is part
    assert len(layer.trainable_variables) == 4
    _keras.remove_sublayer(layer, "part")
    assert not hasattr(layer, "part")
    assert len(layer.trainable_variables) == 2


def test_variables_read_in_their_own_type_inside_mixed_precision():
    seen = []

    class Spy(layers.Dense):
        def call(self, x):
            seen.append(self.kernel.value.dtype)
            with _keras.uncast():
                seen.append(self.kernel.value.dtype)
            return super().call(x)

    Spy(2, dtype="mixed_float16")(np.ones((1, 3)))
    # Once more for the shapes, where Keras builds the layer.
    assert set(zip(seen[::2], seen[1::2], strict=True)) == {(tf.float16, tf.float32)}


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
    _keras.add_again(model, scope.losses)
    assert [float(loss) for loss in model.losses] == [3, 3]
    assert [float(loss) for loss in inner.losses] == [3]


def test_nested_layers_come_after_what_holds_them():
    inner = keras.Sequential([keras.Input((3, 2)), layers.LSTM(2)])
    model = keras.Sequential([inner])
    found = nested_layers(model)
    assert found.index(inner) < found.index(inner.layers[0].cell)
