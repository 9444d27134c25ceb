"""Runs that are cut off and resumed as by another process, beside whole ones."""

import keras
import numpy as np
import tensorflow as tf

import kopt

X = np.random.default_rng(0).normal(size=(22, 4)).astype("float32")
Y = (X @ np.ones((4, 1)) > 0).astype("float32")
BATCH = 4  # six an epoch, the last one short


class Cut(BaseException):
    """The end of a process."""


class CutOff(keras.callbacks.Callback):
    """Raises at one of all the calls that a callback gets, counted from 1."""

    def __init__(self, at=None):
        super().__init__()
        self.at, self.calls = at, 0

    def _called(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.at:
            raise Cut

    on_train_batch_begin = on_train_batch_end = _called
    on_epoch_begin = on_epoch_end = _called
    on_test_begin = on_test_batch_end = on_train_end = _called

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def dense_model(optimizer=None, **arguments):
    """Dropout, batch statistics, a metric: something of all that has a state."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.GaussianNoise(0.1),
            keras.layers.Dense(3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(
        optimizer or keras.optimizers.SGD(0.1, momentum=0.9),
        "binary_crossentropy",
        metrics=["accuracy", "mae"],
        **arguments,
    )
    return model


def small_model():
    """The least that tells samples apart and draws a random number for each."""
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dropout(0.3), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def arrays():
    return (X, Y)


def as_in_a_new_process(seed=1):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)


class Setting:
    """A script that trains a model: what is made anew each time that it runs.

    Args:
        model: Makes the model.
        callbacks: Makes the callbacks beside the backup.
        data: Makes the positional arguments of `fit`.
        arguments: Others of `fit`.
        save_freq: How often a backup is made.
        seed: The seed that the script sets; None for none.
    """

    def __init__(
        self,
        model=dense_model,
        callbacks=list,
        data=arrays,
        save_freq=4,
        seed=1,
        **arguments,
    ):
        self.model, self.callbacks, self.data = model, callbacks, data
        self.save_freq, self.seed = save_freq, seed
        self.arguments = {"epochs": 3, "verbose": 0, **arguments}
        if data is arrays:
            self.arguments.setdefault("batch_size", BATCH)

    def run(self, folder, cut_at=None):
        """Run the script; what it ends with, or None if it is cut off."""
        if self.seed is not None:
            as_in_a_new_process(self.seed)
        model, callbacks = self.model(), self.callbacks()
        self.cut = CutOff(cut_at)
        backup = kopt.callbacks.BackupAndRestore(folder, save_freq=self.save_freq)
        try:
            model.fit(
                *self.data(),
                callbacks=[*callbacks, backup, self.cut],
                **self.arguments,
            )
        except Cut:
            for one in callbacks:  # The system closes what a process had open.
                if getattr(one, "csv_file", None) is not None:
                    one.csv_file.close()
            return None
        return outcome(model, callbacks)

    def check(self, tmp_path, cuts):
        """A run that is cut off again and again ends as a whole one does."""
        whole = self.run(tmp_path / "whole")
        for at in cuts:
            assert self.run(tmp_path / "parts", at) is None, "it was not cut off"
        assert_same(self.run(tmp_path / "parts"), whole)
        return whole


def outcome(model, callbacks=()):
    """All that a run ends with."""
    states = [
        one.get_state()
        for one in callbacks
        if hasattr(one, "get_state") and not hasattr(one, "_clock")
    ]
    optimizer = [] if model.optimizer is None else model.optimizer.variables
    return {
        "history": model.history.history,
        "epochs": model.history.epoch,
        "weights": [v.numpy() for v in model.variables],
        "optimizer": [tf.convert_to_tensor(v).numpy() for v in optimizer],
        "callbacks": states,
        "random": np.random.random(),
    }


def assert_same(found, expected):
    """Two outcomes are equal, bit for bit."""
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_equal(found[name], expected[name], err_msg=name)
