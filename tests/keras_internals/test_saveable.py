"""Canaries: Keras still saves what hangs on a model."""

import numpy as np
import pytest

from kopt._keras.saveable import KerasSaveable
from tests.pruning.nets import mlp


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_an_attribute_that_is_saveable_is_saved_with_its_model(name, tmp_path):
    class State(KerasSaveable):
        saved = 0

        def _obj_type(self):
            return "Loss"

        def save_own_variables(self, store):
            self.saved += 1
            store["value"] = np.ones(1)

    model = mlp()
    model.state = State()
    if name.endswith(".keras"):
        model.save(tmp_path / name)
    else:
        model.save_weights(tmp_path / name)
    assert model.state.saved == 1
