"""Canaries for the private names of both Keras: each fails when one changes."""

import keras
import pytest

from kopt._keras.two_versions import (
    APPLICATION_LAYERS,
    calls,
    inner_layers,
    input_layer,
    is_functional,
    is_of_keras,
    is_older,
    mask_of,
    name_operations,
    own_variables,
)
from kopt.tfmot._layer_classes import is_operation, is_symbolic, layer_class, symbol_of
from tests.peer.tfmot import tf_keras

LIBRARIES = {"Keras 3": lambda: keras, "tf_keras": tf_keras}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]()


def chain(library):
    x = library.Input((4,), name="x")
    dense, drop = library.layers.Dense(3), library.layers.Dropout(0.5)
    return library.Model(x, drop(dense(x))), dense, drop, x


def test_calls_are_read_in_their_order(library):
    model, dense, drop, _ = chain(library)
    first, second = calls(model)
    assert first.layer is dense and second.layer is drop
    assert first.args[0] is model.inputs[0] and second.args[0] is first.outputs[0]
    assert second.outputs[0] is model.outputs[0]


def test_inputs_know_their_layer(library):
    model, _, _, _ = chain(library)
    assert input_layer(model.inputs[0]).name == "x"


def test_variables_and_inner_layers_are_apart(library):
    layer = library.layers.Bidirectional(library.layers.LSTM(2))
    layer(library.Input((3, 2)))
    assert own_variables(layer) == []
    forward, backward = inner_layers(layer)
    assert forward is layer.forward_layer and backward is layer.backward_layer
    (cell,) = inner_layers(forward)
    assert len(own_variables(cell)) == 3


def test_own_variables_begin_with_the_trainable_ones(library):
    layer = library.layers.BatchNormalization()
    layer(library.Input((3,)))
    assert own_variables(layer)[:2] == [layer.gamma, layer.beta]
    assert len(own_variables(layer)) == 4


def test_functional_models_are_told_from_those_with_a_call(library):
    model, *_ = chain(library)
    assert is_functional(model)

    class Other(library.Model):
        def call(self, x):
            return x

    x = library.Input((2,))
    assert not is_functional(Other(x, library.layers.Dense(1)(x)))

    class Plain(library.Model):
        def __init__(self):
            super().__init__()

    assert not is_functional(Plain())


def test_the_two_are_told_apart(library):
    model, dense, *_ = chain(library)
    older = library is not keras
    assert is_older(model) == is_older(dense) == older

    class Own(library.layers.Layer):
        pass

    assert is_older(Own()) == older
    assert is_of_keras(type(dense)) and not is_of_keras(Own)


def test_masks_hang_on_tensors():
    x = keras.Input((4,))
    assert mask_of(x) is None
    embedded = keras.layers.Embedding(3, 2, mask_zero=True)(x)
    assert mask_of(embedded).shape == (None, 4)


@pytest.mark.parametrize("name", APPLICATION_LAYERS)
@pytest.mark.parametrize("older", [True, False])
def test_the_layers_of_applications_are_where_they_were(name, older):
    module = f"keras.src.applications.{APPLICATION_LAYERS[name]}"
    kind = type(name, (), {"__module__": module})
    found = layer_class(kind, older=older)
    assert found.__name__ == name
    assert issubclass(found, (tf_keras() if older else keras).layers.Layer)


def test_operations_take_a_name():
    x = keras.Input((2,))
    y = keras.ops.exp(keras.ops.sin(x))
    name_operations(y, [x], "mine")
    names = [operation.name for operation in keras.Model(x, y).operations]
    assert names[1:] == ["mine_step1", "mine"]


def test_functions_of_tensorflow_have_a_symbol():
    x = tf_keras().Input((2,))
    (call,) = calls(tf_keras().Model(x, x + 1.0))
    assert symbol_of(call.layer) == "__operators__.add"
    assert is_operation(call.layer)
    assert symbol_of(tf_keras().layers.Dense(2)) is None
    assert is_symbolic(x) and not is_symbolic(1.0)
