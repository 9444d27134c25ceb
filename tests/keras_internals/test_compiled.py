"""Canaries: a model makes its steps again when they are taken from it."""

import gc

import keras
import numpy as np
import pytest

from kopt._keras.compiled import forget_compiled_functions

X, Y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
USES = {
    "fit": lambda model: model.fit(X, Y, verbose=0),
    "evaluate": lambda model: model.evaluate(X, Y, verbose=0),
    "predict": lambda model: model.predict(X, verbose=0),
    "train_on_batch": lambda model: model.train_on_batch(X, Y),
    "test_on_batch": lambda model: model.test_on_batch(X, Y),
    "predict_on_batch": lambda model: model.predict_on_batch(X),
}


@pytest.mark.parametrize("use", USES)
def test_a_step_that_was_forgotten_is_traced_again(use):
    traced = []

    class Spy(keras.layers.Dense):
        def call(self, x):
            traced.append(x)
            return super().call(x)

    model = keras.Sequential([keras.Input((3,)), Spy(1)])
    model.compile("sgd", "mse")
    USES[use](model)
    before = len(traced)
    USES[use](model)
    assert len(traced) == before
    forget_compiled_functions(model)
    USES[use](model)
    assert len(traced) > before


def test_a_model_without_steps_gets_none():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    forget_compiled_functions(model)
    assert model.train_function is None
    assert model.test_function is None
    assert model.predict_function is None


def test_a_model_that_the_collector_does_not_list_forgets_its_steps_too():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.predict(X, verbose=0)
    before = model.predict_function
    gc.freeze()
    forget_compiled_functions(model)
    assert model.predict_function is not before
