"""Canaries: a model may become, in place, one that carries something and saves it."""

import keras
import numpy as np

from kopt._keras.attached_state import Carrier, own_arrays, put_on, registered, take_off


class Labelled(Carrier):
    kept_as = "label"

    @classmethod
    def carried_config(cls, model, carried):
        return carried

    @classmethod
    def carry_again(cls, model, config):
        put_on(model, cls, config)


registered(Labelled, "Labelled")


def labelled():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    put_on(model, Labelled, "fine")
    return model


def test_what_a_model_carries_is_saved_with_it(tmp_path):
    model = labelled()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.label == "fine"
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_a_clone_carries_nothing():
    assert type(keras.models.clone_model(labelled())) is keras.Sequential


def test_a_model_that_was_given_something_gets_its_class_back():
    model = labelled()
    take_off(model, Labelled)
    assert type(model) is keras.Sequential and not hasattr(model, "label")


def test_scalars_are_not_among_the_arrays_that_a_class_makes():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Normalization()])
    shapes = [variable.shape for variable in own_arrays(model)]
    assert () in [variable.shape for variable in model.weights]
    assert () not in shapes and shapes
