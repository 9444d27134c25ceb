"""Canaries: Keras still saves what hangs on a model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt._keras.saveable import KerasSaveable, is_attached_state
from tests.pruning.nets import layers, mlp


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


def test_state_of_kopt_is_told_from_what_keras_saves_itself():
    class Attached(KerasSaveable, tf.Module):
        def _obj_type(self):
            return "Attached"

    assert is_attached_state(Attached())
    others = [mlp(), layers.Dense(1), keras.metrics.Mean(), tf.Module()]
    assert not any(map(is_attached_state, others))
