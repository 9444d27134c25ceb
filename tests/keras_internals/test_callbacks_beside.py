"""Canaries: a callback finds those that run beside it."""

import keras
import numpy as np
import pytest

from kopt._keras.callbacks_beside import callbacks_beside, go_first, leave_out

CallbackList = keras.callbacks.CallbackList


class Look(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seen = callbacks_beside(self)

    def on_train_batch_end(self, batch, logs=None):
        self.at_batch = callbacks_beside(self)


def fit(callbacks, in_a_list_of_keras=False):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    if in_a_list_of_keras:
        callbacks = CallbackList(callbacks, add_history=True, model=model)
    model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0, callbacks=callbacks)


@pytest.mark.parametrize("in_a_list_of_keras", [True, False])
def test_those_before_and_behind_are_found(in_a_list_of_keras):
    look, before, behind = Look(), Look(), Look()
    fit([before, look, behind], in_a_list_of_keras)
    for found in (look.seen, look.at_batch):
        assert [one for one in found if isinstance(one, Look)] == [before, behind]


def test_lists_inside_of_lists_are_looked_through():
    look, other, third = Look(), Look(), Look()
    fit([CallbackList([CallbackList([look]), other]), third])
    assert [one for one in look.seen if isinstance(one, Look)] == [other, third]


def test_a_callback_that_was_passed_twice_stands_beside_itself():
    look = Look()
    fit([look, look])
    assert [one for one in look.seen if isinstance(one, Look)] == [look]


def test_a_fit_inside_of_another_one_has_callbacks_of_its_own():
    inner = Look()

    class Nested(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            fit([inner])

    fit([Nested(), Look()])
    assert not [one for one in inner.seen if isinstance(one, (Look, Nested))]


def test_a_loop_of_ones_own_has_no_callbacks():
    assert callbacks_beside(Look()) == []


class Order(keras.callbacks.Callback):
    def __init__(self, name, calls, first=False):
        super().__init__()
        self.name, self.calls, self.first = name, calls, first

    def on_train_begin(self, logs=None):
        self.calls.append(f"begin {self.name}")
        if self.first:
            go_first(self)

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(self.name)


@pytest.mark.parametrize("in_a_list_of_keras", [True, False])
def test_one_that_goes_first_is_called_first_and_no_other_is_left_out(
    in_a_list_of_keras,
):
    calls = []
    a, b, d = (Order(name, calls) for name in "abd")
    inner = CallbackList([b, Order("c", calls, first=True)])
    fit([a, inner, d], in_a_list_of_keras)
    assert calls == [*(f"begin {name}" for name in "abcd"), "c", "b", "a", "d"]


class Alone(Order):
    def on_train_begin(self, logs=None):
        leave_out(self, Look)


@pytest.mark.parametrize("in_a_list_of_keras", [True, False])
def test_those_that_are_left_out_are_called_no_more(in_a_list_of_keras):
    calls = []

    class Loud(Look):
        def on_epoch_end(self, epoch, logs=None):
            calls.append("loud")

    fit([Loud(), Order("a", calls), CallbackList([Alone("b", calls)])])
    assert calls == ["begin a", "a", "b"]
