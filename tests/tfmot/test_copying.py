"""Weights go to the same layer, whatever order the two Keras list them in."""

import keras
import numpy as np
import pytest

from kopt import tfmot
from tests.peer.tfmot import tf_keras
from tests.tfmot.layers import randomize

L = keras.layers


def net(library, first="first", second="second", units=3):
    layers = library.layers
    return library.Sequential(
        [
            library.Input((4,)),
            layers.Dense(units, name=first),
            layers.Dense(units, name=second),
        ]
    )


def kernels(model):
    return [np.asarray(layer.get_weights()[0]) for layer in model.layers]


def test_layers_of_the_same_names_are_matched_by_name():
    x = keras.Input((3,))
    a, b = L.Dense(3, name="a"), L.Dense(3, name="b")
    one = keras.Model(x, a(b(x)))
    other = tf_keras().Sequential(
        [
            tf_keras().Input((3,)),
            tf_keras().layers.Dense(3, name="a"),
            tf_keras().layers.Dense(3, name="b"),
        ]
    )
    randomize(one)
    tfmot.copy_weights(one, other)
    np.testing.assert_array_equal(kernels(other)[0], a.kernel)
    np.testing.assert_array_equal(kernels(other)[1], b.kernel)


def test_else_layers_are_matched_by_order():
    one = tf_keras().Sequential(
        [
            tf_keras().Input((4,)),
            tf_keras().layers.Dense(4, name="u"),
            tf_keras().layers.Dropout(0.5),
            tf_keras().layers.Dense(4, name="v"),
        ]
    )
    other = net(keras, units=4)
    tfmot.copy_weights(one, other)
    np.testing.assert_array_equal(kernels(other)[0], one.layers[0].kernel)
    np.testing.assert_array_equal(kernels(other)[1], one.layers[2].kernel)


def test_within_one_keras_it_works_as_well():
    one, other = net(keras), net(keras)
    tfmot.copy_weights(one, other)
    assert all(map(np.array_equal, kernels(one), kernels(other)))


def test_normalization_computes_with_what_was_copied():
    one = keras.Sequential([keras.Input((2,)), L.Normalization()])
    one.layers[0].adapt(np.array([[0.0, 10.0], [2.0, 30.0]]))
    other = tf_keras().Sequential(
        [tf_keras().Input((2,)), tf_keras().layers.Normalization()]
    )
    tfmot.copy_weights(one, other)
    np.testing.assert_allclose(other(np.array([[2.0, 10.0]])), [[1.0, -1.0]])


def test_nothing_is_copied_if_something_does_not_match():
    one, other = net(keras), net(tf_keras(), units=5)
    before = kernels(other)
    with pytest.raises(ValueError, match="do not match") as caught:
        tfmot.copy_weights(one, other)
    message = str(caught.value)
    assert "first: kernel has the shape (4, 3), its twin (4, 5)" in message
    assert "second: kernel has the shape (3, 3), its twin (5, 5)" in message
    assert all(map(np.array_equal, before, kernels(other)))


def test_layers_that_only_one_has_are_named():
    other = keras.Sequential([keras.Input((4,)), L.Dense(3, name="first")])
    message = "first, second in the source, first in the target"
    with pytest.raises(ValueError, match=message):
        tfmot.copy_weights(net(keras), other)


def test_only_built_models_are_taken():
    with pytest.raises(TypeError, match="`target` must be a Keras 3 model"):
        tfmot.copy_weights(net(keras), [])
    with pytest.raises(ValueError, match="`source` must be a built model"):
        tfmot.copy_weights(keras.Sequential([L.Dense(2)]), net(keras))
