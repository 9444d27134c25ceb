"""Canaries: how `fit` goes through its data."""

import keras
import numpy as np
import pytest

from kopt._keras.fit_data import FitData
from tests.interruption import X, Y, small_model

SIZES = ("number of batches", "batch_size", "steps_per_epoch", "steps_per_execution")


class Look(keras.callbacks.Callback):
    """Goes to a place before the first epoch, and notes the places of all."""

    def __init__(self, place=None, batches=0):
        super().__init__()
        self.go_to = place, batches
        self.places, self.seen, self.reached = [], [], 0

    def on_train_begin(self, logs=None):
        self.data = FitData(self)
        self.data.on_epoch = lambda: self.places.append(self.data.place())
        if self.go_to[0] is not None:
            self.data.go_to(*self.go_to, self.is_reached)

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(batch)

    def is_reached(self):
        self.reached += 1
        return True


def looked(look, **arguments):
    arguments = {"batch_size": 4, "epochs": 2, "verbose": 0, **arguments}
    small_model().fit(X, Y, callbacks=[look], **arguments)
    return look


def test_sizes_and_passes_are_known():
    look = looked(Look())
    assert [look.data.description[name] for name in SIZES] == [6, 4, None, 1]
    # Keras makes a pass at the end of each epoch, too.
    assert [place["passes"] for place in look.places] == [0, 2]
    assert not any(place["open"] for place in look.places)


def test_a_pass_that_goes_on_over_epochs_is_known():
    look = looked(Look(), steps_per_epoch=3)
    assert [(p["open"], p["seen"]) for p in look.places] == [(False, 0), (True, 3)]


def test_an_epoch_begins_in_its_middle():
    look = looked(Look(looked(Look()).places[1], 4), epochs=1)
    assert look.seen == [4, 5] and look.reached == 1


def test_nothing_of_it_stays_behind():
    look = looked(Look())
    look.data.release()
    own = vars(look.data._epochs)
    assert not {"_get_iterator", "_enumerate_iterator"} & set(own)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: ((X[:4], Y[:4]) for _ in range(9)), ["a Python generator"]),
        (lambda: (X, Y), []),
    ],
)
def test_what_cannot_be_drawn_again_is_known(data, words):
    look, data = Look(), data()
    data = data if isinstance(data, tuple) else (data,)
    arguments = {"steps_per_epoch": 2, "shuffle": False, "verbose": 0}
    small_model().fit(*data, callbacks=[look], **arguments)
    assert look.data.unrepeatable() == words


def test_a_loop_of_ones_own_is_refused():
    look = Look()
    look.set_model(small_model())
    with pytest.raises(ValueError, match="Look has to be called by `fit`"):
        look.on_train_begin()


def test_orders_of_arrays_are_those_of_the_seed():
    """Keras shuffles arrays alike in each epoch where a seed is set."""

    class Record(keras.layers.Layer):
        def call(self, x):
            orders.append(np.array(x)[:, 0].tolist())
            return x

    orders = []
    model = keras.Sequential([keras.Input((4,)), Record(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    orders.clear()
    model.fit(X, Y, batch_size=22, epochs=2, verbose=0, shuffle=True)
    assert orders[0] == orders[1] != X[:, 0].tolist()
