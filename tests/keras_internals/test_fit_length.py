"""Canaries: what `fit` has before it tells its length and whether it validates."""

import keras
import numpy as np
import pytest

from kopt._keras.fit_length import fit_length, has_validation

X, Y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")


class Look(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.length = fit_length(self)
        self.validates = has_validation(self)


def looked(own_list, **arguments):
    look = Look()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callbacks = [look]
    if own_list:
        callbacks = keras.callbacks.CallbackList(callbacks, True, model=model)
    model.fit(X, Y, 2, epochs=3, verbose=0, callbacks=callbacks, **arguments)
    return look


@pytest.mark.parametrize("own_list", [False, True])
def test_the_length_is_known_in_any_list(own_list):
    assert looked(own_list).length == (4, 3)


@pytest.mark.parametrize(
    ("arguments", "validates"),
    [
        ({}, False),
        ({"validation_data": (X, Y)}, True),
        ({"validation_split": 0.5}, True),
    ],
    ids=["none", "data", "split"],
)
def test_whether_there_is_validation_is_known(arguments, validates):
    assert looked(False, **arguments).validates is validates


def test_a_loop_of_ones_own_tells_nothing():
    look = Look()
    look.set_model(keras.Sequential())
    look.on_train_begin()
    assert look.length == (None, None) and look.validates is None
