import keras_tuner
import numpy as np
import pytest
from sklearn.datasets import load_digits

import kopt


@pytest.fixture(scope="session")
def digits():
    """600 training and 300 validation digits, as flat vectors in [0, 1]."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    train, validation = order[:600], order[600:900]
    return (x[train], y[train]), (x[validation], y[validation])


@pytest.fixture
def make_tuner(tmp_path):
    """A stock tuner over a hypermodel, with its files under the test's own folder."""

    def make(hypermodel, tuner=keras_tuner.RandomSearch, seed=1, **arguments):
        if tuner is not keras_tuner.Hyperband:
            arguments.setdefault("max_trials", 2)
        return tuner(
            hypermodel,
            objective=kopt.tuning.objective("val_accuracy"),
            seed=seed,
            directory=tmp_path,
            **arguments,
        )

    return make


@pytest.fixture
def search(digits):
    """Run a search on digits, quietly."""

    def run(tuner, epochs=1, **arguments):
        train, validation = digits
        tuner.search(
            *train, validation_data=validation, epochs=epochs, verbose=0, **arguments
        )
        return tuner

    return run
