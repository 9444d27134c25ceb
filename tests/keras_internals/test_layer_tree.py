"""Canaries: Keras still lists the layers inside layers."""

import keras

from kopt._keras.layer_tree import nested_layers, own_layers, with_nested_layers
from tests.clustering.nets import layers


def test_nested_layers_come_after_what_holds_them():
    attention, inputs = layers.MultiHeadAttention(1, 2), keras.Input((4, 2))
    inner = keras.Sequential([layers.LSTM(2)])
    model = keras.Model(inputs, inner(attention(inputs, inputs)))
    found = nested_layers(model)
    for layer in (attention._query_dense, inner.layers[0].cell):
        assert layer in found
    assert found.index(inner) < found.index(inner.layers[0])
    assert found.index(attention) < found.index(attention._query_dense)


def test_cells_come_after_what_holds_them():
    inner = keras.Sequential([keras.Input((3, 2)), layers.LSTM(2)])
    model = keras.Sequential([inner])
    found = nested_layers(model)
    assert found.index(inner) < found.index(inner.layers[0].cell)


def test_sublayers_are_found_at_any_depth():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="deep")])
    outer = keras.Sequential([keras.Input((3,)), inner])
    attention = keras.layers.MultiHeadAttention(1, 2)
    attention.build((None, 2, 3), (None, 2, 3))
    assert "deep" in [one.name for one in nested_layers(outer)]
    assert "query" in [one.name for one in nested_layers(attention)]
    assert "deep" not in [one.name for one in own_layers(outer)]


def test_layers_inside_layers_are_found_with_the_model_first():
    model = keras.Sequential(
        [keras.Input((4, 2)), keras.layers.Bidirectional(keras.layers.LSTM(3))]
    )
    kinds = [type(layer).__name__ for layer in with_nested_layers(model)]
    assert kinds.count("LSTM") == 2 and kinds.count("LSTMCell") == 2
    assert kinds[0] == "Sequential"


def test_layers_in_a_list_are_held_by_the_layer_whose_list_it_is():
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.parts = [keras.layers.Dense(2), keras.layers.LSTM(2)]

    block = Block()
    assert own_layers(block) == block.parts
    assert nested_layers(block) == [*block.parts, block.parts[1].cell]
