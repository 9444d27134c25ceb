"""Canaries: a built layer can be opened, given a part, and closed again."""

import keras
import pytest

from kopt._keras.layer_tree import nested_layers
from kopt._keras.sublayers import add_sublayer, remove_sublayer
from tests.clustering.nets import layers, mlp


@pytest.fixture
def built():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    return layer


def test_keras_still_locks_a_built_layer(built):
    with pytest.raises(ValueError, match="cannot add new elements of state"):
        built.extra = keras.layers.Dense(1)


def test_a_sublayer_added_later_is_counted_saved_and_restored(built, tmp_path):
    model = keras.Sequential([keras.Input((3,)), built])
    extra = keras.layers.Dense(1)
    extra.build((None, 1))
    add_sublayer(built, "extra", extra)
    assert id(extra.kernel) in [id(one) for one in model.weights]
    extra.kernel.assign([[7.0]])
    model.save_weights(tmp_path / "all.weights.h5")
    extra.kernel.assign([[0.0]])
    model.load_weights(tmp_path / "all.weights.h5")
    assert extra.kernel.numpy() == 7.0


def test_the_lock_is_back_afterwards(built):
    add_sublayer(built, "extra", keras.layers.Dense(1))
    with pytest.raises(ValueError, match="cannot add new elements of state"):
        built.another = keras.layers.Dense(1)


def test_a_removed_sublayer_leaves_nothing(built):
    weights = [id(one) for one in built.weights]
    extra = keras.layers.Dense(1)
    extra.build((None, 1))
    add_sublayer(built, "extra", extra)
    remove_sublayer(built, "extra")
    assert [id(one) for one in built.weights] == weights
    assert not hasattr(built, "extra")
    assert nested_layers(built) == []


def test_a_built_layer_takes_a_part_and_gives_it_back():
    layer = mlp().layers[0]
    part = layers.Dense(2)
    part.build((3,))
    add_sublayer(layer, "part", part)
    assert layer.part is part
    assert len(layer.trainable_variables) == 4
    remove_sublayer(layer, "part")
    assert not hasattr(layer, "part")
    assert len(layer.trainable_variables) == 2
