"""Canaries for the private names of both Keras: each fails when one changes."""

import keras
import pytest

from kopt.tfmot import _keras
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
    first, second = _keras.calls(model)
    assert first.layer is dense and second.layer is drop
    assert first.args[0] is model.inputs[0] and second.args[0] is first.outputs[0]
    assert second.outputs[0] is model.outputs[0]


def test_inputs_know_their_layer(library):
    model, _, _, _ = chain(library)
    assert _keras.input_layer(model.inputs[0]).name == "x"


def test_variables_and_inner_layers_are_apart(library):
    layer = library.layers.Bidirectional(library.layers.LSTM(2))
    layer(library.Input((3, 2)))
    assert _keras.own_variables(layer) == []
    forward, backward = _keras.inner_layers(layer)
    assert forward is layer.forward_layer and backward is layer.backward_layer
    (cell,) = _keras.inner_layers(forward)
    assert len(_keras.own_variables(cell)) == 3


def test_own_variables_begin_with_the_trainable_ones(library):
    layer = library.layers.BatchNormalization()
    layer(library.Input((3,)))
    assert _keras.own_variables(layer)[:2] == [layer.gamma, layer.beta]
    assert len(_keras.own_variables(layer)) == 4


def test_functional_models_are_told_from_those_with_a_call(library):
    model, *_ = chain(library)
    assert _keras.is_functional(model)

    class Other(library.Model):
        def call(self, x):
            return x

    x = library.Input((2,))
    assert not _keras.is_functional(Other(x, library.layers.Dense(1)(x)))

    class Plain(library.Model):
        def __init__(self):
            super().__init__()

    assert not _keras.is_functional(Plain())


def test_the_two_are_told_apart(library):
    model, dense, *_ = chain(library)
    older = library is not keras
    assert _keras.is_older(model) == _keras.is_older(dense) == older

    class Own(library.layers.Layer):
        pass

    assert _keras.is_older(Own()) == older
    assert _keras.is_of_keras(type(dense)) and not _keras.is_of_keras(Own)


def test_masks_hang_on_tensors():
    x = keras.Input((4,))
    assert _keras.mask_of(x) is None
    embedded = keras.layers.Embedding(3, 2, mask_zero=True)(x)
    assert _keras.mask_of(embedded).shape == (None, 4)


@pytest.mark.parametrize("name", _keras._APPLICATION_LAYERS)
@pytest.mark.parametrize("older", [True, False])
def test_the_layers_of_applications_are_where_they_were(name, older):
    module = f"keras.src.applications.{_keras._APPLICATION_LAYERS[name]}"
    kind = type(name, (), {"__module__": module})
    found = _keras.layer_class(kind, older=older)
    assert found.__name__ == name
    assert issubclass(found, (tf_keras() if older else keras).layers.Layer)


def test_operations_take_a_name():
    x = keras.Input((2,))
    y = keras.ops.exp(keras.ops.sin(x))
    _keras.name_operations(y, [x], "mine")
    names = [operation.name for operation in keras.Model(x, y).operations]
    assert names[1:] == ["mine_step1", "mine"]


def test_functions_of_tensorflow_have_a_symbol():
    x = tf_keras().Input((2,))
    (call,) = _keras.calls(tf_keras().Model(x, x + 1.0))
    assert _keras.symbol_of(call.layer) == "__operators__.add"
    assert _keras.is_operation(call.layer)
    assert _keras.symbol_of(tf_keras().layers.Dense(2)) is None
    assert _keras.is_symbolic(x) and not _keras.is_symbolic(1.0)
