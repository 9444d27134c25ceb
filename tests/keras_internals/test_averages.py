"""Canaries: the moving averages that an optimizer keeps."""

import keras
import pytest
from keras import ops

import kopt
from kopt._keras.averages import averages


@pytest.mark.parametrize("make", [keras.optimizers.SGD, kopt.SGD])
def test_averages_stand_beside_their_weights(make):
    weights = [keras.Variable([1.0]), keras.Variable([5.0])]
    optimizer = make(0.0, use_ema=True)
    assert averages(optimizer) == []
    optimizer.apply([keras.ops.ones_like(weight) for weight in weights], weights)
    pairs = averages(optimizer)
    assert [id(weight) for weight, _ in pairs] == [id(weight) for weight in weights]
    optimizer.apply([ops.zeros(1), ops.zeros(1)], weights)
    for (_, average), value in zip(pairs, (7.0, 8.0), strict=True):
        average.assign([value])
    optimizer.finalize_variable_values(weights)
    assert [float(weight[0]) for weight in weights] == [7.0, 8.0]


def test_an_optimizer_without_averages_has_none():
    optimizer = keras.optimizers.SGD()
    optimizer.build([keras.Variable([1.0])])
    assert averages(optimizer) == []
