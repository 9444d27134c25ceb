"""Canaries: calls before and after those of all callbacks of a `fit`."""

import keras
import numpy as np
import pytest

from kopt._keras.around_callbacks import AroundCallbacks

HOOKS = ("on_epoch_begin", "on_epoch_end", "on_train_batch_end", "on_train_end")


class Told(keras.callbacks.Callback):
    """Tells when it is called, under a name."""

    def __init__(self, name, calls, stands_around=False):
        super().__init__()
        self.name, self.calls, self.stands_around = name, calls, stands_around
        self.around = None

    def on_train_begin(self, logs=None):
        if not self.stands_around:
            return
        self.around = AroundCallbacks(self)
        for hook in HOOKS:
            self.around.before(hook, lambda *_, hook=hook, **__: self.told("<", hook))
            self.around.after(hook, lambda *_, hook=hook, **__: self.told(">", hook))

    def told(self, name, hook):
        self.calls.append(f"{name} {hook}")

    def on_epoch_begin(self, epoch, logs=None):
        self.told(self.name, "on_epoch_begin")

    def on_epoch_end(self, epoch, logs=None):
        self.told(self.name, "on_epoch_end")

    def on_train_batch_end(self, batch, logs=None):
        self.told(self.name, "on_train_batch_end")

    def on_train_end(self, logs=None):
        self.told(self.name, "on_train_end")


@pytest.mark.parametrize("in_a_list_of_keras", [True, False])
def test_actions_stand_around_all_callbacks(in_a_list_of_keras):
    calls = []
    told = [Told("a", calls), Told("b", calls, stands_around=True), Told("c", calls)]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callbacks = told
    if in_a_list_of_keras:
        callbacks = keras.callbacks.CallbackList(told, True, model=model)
    x = np.ones((2, 2))
    model.fit(x, x[:, :1], verbose=0, callbacks=callbacks)
    for hook in HOOKS:
        names = [call.split()[0] for call in calls if call.endswith(hook)]
        assert names == ["<", "a", "b", "c", ">"]
    # The user may use a list again.
    told[1].around.remove()
    calls.clear()
    told[1].stands_around = False
    model.fit(x, x[:, :1], verbose=0, callbacks=callbacks)
    assert calls[0] == "a on_epoch_begin"


def test_a_loop_of_ones_own_is_refused():
    with pytest.raises(ValueError, match="Told has to be called by `fit`"):
        AroundCallbacks(Told("a", []))
