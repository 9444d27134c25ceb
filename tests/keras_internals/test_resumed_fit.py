"""Canaries: a `fit` that begins where another one ended."""

import keras
import numpy as np
import pytest

from kopt._keras.resumed_fit import LogsOfEpoch, begin_at, build_on_data
from tests.interruption import X, Y, small_model


def test_a_fit_begins_at_the_epoch_that_is_set():
    model = small_model()
    begin_at(model, 2)
    assert model.fit(X, Y, epochs=3, verbose=0).epoch == [2]
    begin_at(model, None)
    assert model.fit(X, Y, epochs=3, verbose=0).epoch == [0, 1, 2]


class Build(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        build_on_data(self)
        found = [*self.model.variables, *self.model.metrics_variables]
        self.names = [variable.name for variable in found]
        self.optimizer_is_built = self.model.optimizer.built


def test_a_model_is_built_on_its_data_with_metrics_and_optimizer():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    build = Build()
    model.fit(X, Y, verbose=0, callbacks=[build])
    found = [*model.variables, *model.metrics_variables]
    assert build.names == [variable.name for variable in found]
    assert build.names == ["kernel", "bias", *["total", "count"] * 2]
    assert build.optimizer_is_built


def test_an_epoch_without_batches_logs_what_was_given():
    model = small_model()
    model.fit(X, Y, verbose=0)
    logs = LogsOfEpoch(model, {"own": 3.0})
    assert model._get_metrics_result_or_logs({}) == {"own": 3.0}
    logs.remove()
    assert "_get_metrics_result_or_logs" not in vars(model)
    loss = LogsOfEpoch(model, {"loss": 0.0})
    assert model._get_metrics_result_or_logs({}) == model.get_metrics_result()
    loss.remove()


def test_data_without_shapes_are_refused():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")

    class Ragged(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, place):
            return np.ones((2,) * (place + 2)), np.ones((2, 1))

    with pytest.raises(Exception, match=r"do not tell their shapes|rank"):
        model.fit(Ragged(), shuffle=False, verbose=0, callbacks=[Build()])
