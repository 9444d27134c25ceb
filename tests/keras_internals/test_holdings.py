"""Canaries: what hangs on a layer is found, and what does not hang on it is not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt._keras.holdings import held_layers, held_variables


class Box:
    def __init__(self, content):
        self.content = content


class Holder(keras.layers.Layer):
    def __init__(self, hide, variable):
        super().__init__()
        vars(self)["hidden"] = hide(variable)

    def call(self, x):
        return x


WAYS = {
    "as it is": lambda thing: thing,
    "in a list": lambda thing: [1, [thing]],
    "in a dict": lambda thing: {"a": {"b": thing}},
    "in a tuple": lambda thing: (None, thing),
    "in an object": Box,
    "in a function": lambda thing: lambda: thing,
    "in a method": lambda thing: Box(thing).__init__,
    "in a module": lambda thing: _module(thing),
}


def _module(thing):
    module = tf.Module()
    module.thing = thing
    return module


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [keras.Variable, tf.Variable])
def test_a_variable_that_keras_does_not_track_is_held(way, kind):
    variable = kind(1.0)
    layer = Holder(WAYS[way], variable)
    assert layer.variables == []
    assert [id(one) for one in held_variables(layer)] == [id(variable)]


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_that_keras_does_not_track_is_held(way):
    dense = keras.layers.Dense(2)
    assert held_layers(Holder(WAYS[way], dense)) >= {id(dense)}


def test_states_of_recurrent_layers_are_held_and_tracked_by_nobody():
    layer = keras.layers.LSTM(2, stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=(1, 3, 2)), layer])
    states = {id(state) for state in layer.states}
    assert len(states) == 2
    assert not states & {id(variable) for variable in model.variables}
    assert states <= {id(variable) for variable in held_variables(model)}


def test_a_random_generator_of_tensorflow_is_held():
    generator = tf.random.Generator.from_seed(1)
    (state,) = held_variables(Holder(lambda _: generator, None))
    before = np.array(state)
    generator.normal((1,))
    assert (np.array(state) != before).any()


def test_models_that_only_share_the_graph_are_not_held():
    x = keras.Input((3,))
    first, second = keras.layers.Dense(2), keras.layers.Dense(1)
    hidden = first(x)
    keras.Model(x, second(hidden))
    assert id(second) not in held_layers(keras.Model(x, hidden))


def test_the_variables_of_an_optimizer_are_not_the_models():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(), "mse")
    model.optimizer.build(model.trainable_variables)
    own = {id(variable) for variable in held_variables(model)}
    assert not own & {id(variable) for variable in model.optimizer.variables}


def test_each_weight_is_found_once():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    found = [id(variable) for variable in held_variables(model)]
    assert sorted(found) == sorted(id(variable) for variable in model.variables)
