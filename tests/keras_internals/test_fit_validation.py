"""Canary: the names under which `fit` has its validation data."""

import keras
import numpy as np

from kopt._keras.fit_validation import fit_validation
from tests.interruption import X, Y, small_model


class Look(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.found = fit_validation(self)


def looked(**arguments):
    look = Look()
    small_model().fit(X, Y, callbacks=[look], verbose=0, **arguments)
    return look.found


def test_a_fit_without_validation_has_none():
    assert looked() is None


def test_validation_data_are_those_that_were_given():
    data = (X[:8], Y[:8], np.ones(8))
    found = looked(validation_data=data, batch_size=4)
    assert all(one is other for one, other in zip(found, data, strict=False))
    assert (found.batch_size, found.steps) == (4, None)
    found = looked(validation_data=data, validation_batch_size=2, validation_steps=3)
    assert (found.batch_size, found.steps) == (2, 3)


def test_a_share_of_the_data_is_their_end():
    found = looked(validation_split=0.25)
    count = len(X) - int(0.75 * len(X))
    np.testing.assert_array_equal(found.x, X[-count:])
    np.testing.assert_array_equal(found.y, Y[-count:])
    assert found.sample_weight is None
