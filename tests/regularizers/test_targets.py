"""Finding the weights of a model, each at its owner."""

import keras

from kopt.regularizers._targets import targets_of


class Block(keras.layers.Layer):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.parts = [
            keras.layers.Dense(2, name="dense"),
            keras.layers.LSTM(2, name="two"),
        ]
        self.scale = self.add_weight(shape=(2,), name="scale")

    def build(self, shape):
        self.parts[0].build(shape)
        self.parts[1].build((*shape[:-1], 2))

    def call(self, inputs):
        return self.parts[1](self.parts[0](inputs)) * self.scale


def test_every_weight_is_found_at_its_owner_with_its_path():
    block = Block(name="block")
    inner = keras.Sequential([keras.Input((3, 2)), block], name="inner")
    head = keras.layers.Dense(1, name="head")
    model = keras.Sequential([keras.Input((3, 2)), inner, head])
    found = {(target.path, target.variable.name) for target in targets_of(model)}
    assert found == {
        ("inner/block", "scale"),
        ("inner/block/dense", "kernel"),
        ("inner/block/dense", "bias"),
        ("inner/block/two/lstm_cell", "kernel"),
        ("inner/block/two/lstm_cell", "recurrent_kernel"),
        ("inner/block/two/lstm_cell", "bias"),
        ("head", "kernel"),
        ("head", "bias"),
    }
    owned = [id(target.variable) for target in targets_of(model)]
    assert sorted(owned) == sorted(id(weight) for weight in model.weights)
