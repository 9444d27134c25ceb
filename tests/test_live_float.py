"""Numbers that compiled steps read anew."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt._live_float import LiveFloat


class Owner:
    size = LiveFloat(low=0.0, high=2.0)

    def __init__(self, size):
        self.size = size


class OwnerLayer(keras.layers.Layer):
    size = LiveFloat()

    def __init__(self):
        super().__init__()
        self.size = 0.5


@pytest.mark.parametrize("value", [0.1, 1e-4, 1 / 3, 0.0, 2])
def test_reads_back_as_it_was_written(value):
    assert Owner(value).size == pytest.approx(value, rel=1e-7)
    assert np.float32(Owner(value).size) == np.float32(value)


def test_reads_a_decimal_as_short_as_it_was_written():
    assert repr(Owner(0.1).size) == "0.1"


def test_a_compiled_function_sees_a_new_value_without_a_new_trace():
    owner = Owner(0.5)
    traces = []

    @tf.function
    def doubled():
        traces.append(None)
        return 2 * owner._size

    assert doubled() == 1.0
    owner.size = 2.0
    assert doubled() == 4.0
    assert len(traces) == 1


def test_a_variable_is_used_itself():
    shared = keras.Variable(0.25, trainable=False)
    first, second = Owner(shared), Owner(shared)
    shared.assign(0.75)
    assert (first.size, second.size) == (0.75, 0.75)


@pytest.mark.parametrize(
    "value", [np.float32(0.5), np.array(0.5), tf.constant(0.5), keras.Variable(0.5)]
)
def test_later_values_may_be_scalars_of_any_kind(value):
    owner = Owner(1.0)
    owner.size = value
    assert owner.size == 0.5


def test_a_later_variable_is_read_once():
    owner, other = Owner(1.0), keras.Variable(0.5)
    owner.size = other
    other.assign(1.5)
    assert owner.size == 0.5


@pytest.mark.parametrize("value", [-0.1, 2.1, float("nan"), float("inf")])
def test_rejects_values_outside_its_range(value):
    owner = Owner(1.0)
    with pytest.raises(ValueError, match="`size` must be a finite number at least 0"):
        owner.size = value
    with pytest.raises(ValueError, match="`size` must be a finite number at least 0"):
        Owner(value)
    assert owner.size == 1.0


@pytest.mark.parametrize("value", ["0.5", None, True, np.zeros(2)])
def test_rejects_what_is_no_number(value):
    with pytest.raises(TypeError, match="`size` must be a number"):
        Owner(value)


def test_is_no_weight_of_a_layer():
    layer = OwnerLayer()
    layer.build((2, 3))
    assert layer.size == 0.5
    assert layer.weights == []
    assert layer.trainable_variables == []


def test_can_be_made_inside_a_stateless_scope():
    with keras.StatelessScope():
        owner = Owner(0.25)
    assert owner.size == 0.25
