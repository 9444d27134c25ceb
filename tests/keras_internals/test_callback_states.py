"""Canaries: where Keras's callbacks keep what they know."""

import keras
import pytest

from kopt import _callback_state
from kopt._keras import callback_states
from tests.interruption import X, Y, small_model

OF = keras.callbacks
LEARNED = {
    OF.EarlyStopping: lambda folder: OF.EarlyStopping(
        "loss", patience=9, restore_best_weights=True
    ),
    OF.ReduceLROnPlateau: lambda folder: OF.ReduceLROnPlateau(
        "loss", min_delta=9.0, patience=1, cooldown=3
    ),
    OF.ModelCheckpoint: lambda folder: OF.ModelCheckpoint(
        folder / "a.weights.h5", "loss", save_weights_only=True, save_freq=4
    ),
    OF.CSVLogger: lambda folder: OF.CSVLogger(folder / "a.csv"),
    OF.History: lambda folder: OF.History(),
    OF.TensorBoard: lambda folder: OF.TensorBoard(folder),
}


@pytest.mark.parametrize("kind", LEARNED, ids=lambda kind: kind.__name__)
def test_what_they_learn_in_a_fit_is_in_their_state(kind, tmp_path):
    callback = LEARNED[kind](tmp_path)
    states = []
    after = OF.LambdaCallback(
        on_epoch_end=lambda epoch, logs: states.append(
            _callback_state.state_of(callback)
        )
    )
    small_model().fit(X, Y, 4, epochs=3, verbose=0, callbacks=[callback, after])
    assert _callback_state.has_state(callback)
    assert repr(states[0]) != repr(states[1])


def test_each_kind_has_a_state_from_the_beginning():
    for kind, names in callback_states._ATTRIBUTES.items():
        assert issubclass(kind, OF.Callback) and names


def test_those_that_know_nothing_are_not_named():
    scheduler = OF.LearningRateScheduler(lambda epoch: 0.1)
    for callback in (scheduler, OF.TerminateOnNaN(), OF.LambdaCallback()):
        assert not _callback_state.has_state(callback)
        assert not _callback_state.may_forget(callback)


def test_a_class_of_ones_own_may_forget_what_is_in_its_attributes():
    class Plain(OF.Callback):
        pass

    class Counts(OF.Callback):
        def __init__(self):
            super().__init__()
            self.count = 0

    assert not _callback_state.may_forget(Plain())
    assert _callback_state.may_forget(Counts())
