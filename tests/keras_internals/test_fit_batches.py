"""Canaries: the batches of a running `fit` can be made again in another size."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt._keras.fit_batches import FitBatches, fit_batches

X, Y = np.arange(12.0).reshape(12, 1), np.ones((12, 1))


class Cut(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_begin(self, logs=None):
        self.data = fit_batches(self)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.data.cut(6)

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(batch)


def cut(data, **arguments):
    callback = Cut()
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(**data, epochs=2, verbose=0, callbacks=[callback], **arguments)
    return callback


@pytest.mark.parametrize(
    "data",
    [
        {"x": X, "y": Y, "batch_size": 3},
        {
            "x": tf.data.Dataset.from_tensor_slices((X, Y)).batch(3),
            "shuffle": False,
        },
    ],
    ids=["arrays", "a dataset"],
)
def test_arrays_and_datasets_are_cut_again(data):
    callback = cut(data)
    assert (callback.data.steps, callback.data.batch_size) == (4, 3)
    assert callback.seen == [0, 1, 2, 3, 0, 1]
    assert callback.data.steps_of(6) == 2


def test_the_default_size_is_that_of_keras():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = Cut()
    model.fit(np.ones((40, 1)), np.ones(40), verbose=0, callbacks=[callback])
    assert callback.seen == [0, 1] and callback.data.batch_size == 32


def test_a_loop_of_ones_own_has_no_data():
    callback = Cut()
    callback.set_model(keras.Sequential())
    callback.on_train_begin()
    assert callback.data is None and not isinstance(callback.data, FitBatches)
