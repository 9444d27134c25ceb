import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt import _registry
from tests.conformance.test_optimizers import OPTIMIZERS
from tests.conformance.test_wrappers import WRAPPERS, make


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_complex_variable_is_refused_when_an_optimizer_is_built(name, dtype):
    variable = keras.Variable(np.array([1 + 1j]), dtype=dtype)
    with pytest.raises(TypeError, match=r"two float variables.*tf\.complex"):
        _registry.get("optimizers", name).build([variable])
    assert variable.numpy().item() == 1 + 1j


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_complex_variable_is_refused_when_a_wrapper_is_built(name):
    variable = keras.Variable(np.array([1 + 1j]), dtype="complex64")
    with pytest.raises(TypeError, match="no imaginary part"):
        make(name).apply([tf.constant([1j])], [variable])


def test_a_wrapper_of_an_optimizer_of_keras_refuses_a_complex_variable_too():
    variable = keras.Variable(np.array([1 + 1j]), dtype="complex64")
    with pytest.raises(TypeError, match="no imaginary part"):
        kopt.Lookahead(keras.optimizers.SGD()).build([variable])


def test_a_complex_gradient_of_a_real_variable_is_refused():
    variable = keras.Variable([1.0])
    with pytest.raises(TypeError, match="must be real"):
        kopt.SGD().apply([tf.constant([1 + 1j], "complex64")], [variable])


@pytest.mark.parametrize("dtype", ["int32", "int64", "bool", "uint8"])
@pytest.mark.parametrize("wrap", [lambda o: o, kopt.WeightAverage])
def test_a_gradient_of_a_variable_without_fractions_is_refused(dtype, wrap):
    variable = keras.Variable(np.array([1]), dtype=dtype)
    with pytest.raises(TypeError, match=f"holds {dtype} numbers"):
        wrap(kopt.Adam()).apply([tf.ones(1)], [variable])
    assert variable.numpy().item() == 1


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize(
    "wrap", [lambda o: o, kopt.WeightAverage, lambda o: kopt.Lookahead(o, 1)]
)
def test_a_counter_among_the_trainable_variables_keeps_counting(wrap):
    weight, counter = keras.Variable([1.0]), keras.Variable(2**40, dtype="int64")
    optimizer = wrap(kopt.Adam(gradient_accumulation_steps=2))
    optimizer.build([weight, counter])
    for _ in range(4):
        optimizer.apply([tf.ones(1), None], [weight, counter])
        counter.assign_add(1)
    optimizer.finalize_variable_values([weight, counter])
    assert int(counter.numpy()) == 2**40 + 4
    assert float(weight.numpy()[0]) < 1.0
