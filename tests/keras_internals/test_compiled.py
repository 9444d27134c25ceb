"""Canaries: a model makes its steps again when they are taken from it."""

import keras
import numpy as np

from kopt._keras.compiled import forget_compiled_functions


def test_a_step_that_was_forgotten_is_traced_again():
    traced = []

    class Spy(keras.layers.Dense):
        def call(self, x):
            traced.append(isinstance(x, keras.KerasTensor))
            return super().call(x)

    model = keras.Sequential([keras.Input((3,)), Spy(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    for run in (
        lambda: model.fit(x, y, verbose=0),
        lambda: model.predict(x, verbose=0),
    ):
        run()
        before = len(traced)
        run()
        assert len(traced) == before
        forget_compiled_functions(model)
        run()
        assert len(traced) > before
