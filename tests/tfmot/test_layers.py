"""Every layer class that both Keras have computes the same in the other one."""

import keras
import pytest

from kopt import tfmot
from tests.peer.tfmot import tf_keras
from tests.tfmot.layers import CASES, data_for, model_of
from tests.tfmot.nets import assert_same

# Not layers to be called, or only what others are derived from.
ABSTRACT = {"InputLayer", "InputSpec", "Layer", "Wrapper"}

# The same name for something else.
OTHERWISE = {"RandomCrop"}


# Their loops take seconds to trace.
SLOW = ("Bidirectional", "ConvLSTM", "GRU", "LSTM", "RNN", "SimpleRNN", "StackedRNN")
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] * name.startswith(SLOW))
    for name in CASES
]


def values(model):
    return sorted(array.tobytes() for array in model.get_weights())


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_computes_the_same_in_tf_keras_and_back(name):
    model, data = model_of(CASES[name]), data_for(CASES[name])
    there = tfmot.to_tf_keras(model)
    assert isinstance(there, tf_keras().Model)
    assert set(values(model)) == set(values(there))
    assert_same(model(data, training=False), there(data, training=False))
    back = tfmot.from_tf_keras(there)
    assert_same(model(data, training=False), back(data, training=False))
    assert [type(layer) for layer in back.layers] == [type(y) for y in model.layers]


def test_the_table_has_every_class_that_both_have():
    both = {
        getattr(keras.layers, name).__name__
        for name in set(dir(keras.layers)) & set(dir(tf_keras().layers))
        if isinstance(getattr(keras.layers, name), type)
    }
    assert both - ABSTRACT - OTHERWISE <= {name.split(" ")[0] for name in CASES}
