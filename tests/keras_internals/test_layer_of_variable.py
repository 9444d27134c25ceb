"""What Keras must go on doing for a variable's layer to be found."""

import gc

import keras

from kopt._keras import layer_of_variable
from kopt._keras.layer_of_variable import layers_of


def built(layer, shape):
    layer.build(shape)
    return layer


def test_layers_keep_their_own_variables_in_two_lists():
    layer = built(keras.layers.BatchNormalization(), (None, 3))
    listed = [*layer._trainable_variables, *layer._non_trainable_variables]
    assert {id(one) for one in listed} == {id(one) for one in layer.variables}
    block = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert block.trainable_variables and not block._trainable_variables


def test_a_frozen_layer_still_has_its_variables():
    layer = built(keras.layers.Dense(2), (None, 3))
    layer.trainable = False
    assert layers_of([layer.kernel, layer.bias]) == [layer, layer]


def test_the_layer_that_made_a_variable_is_found_and_not_one_that_holds_it_too():
    inner = keras.layers.Conv2D(2, 3)
    wrapper = built(keras.layers.SpectralNormalization(inner), (None, 8, 8, 3))
    assert any(one is inner.kernel for one in wrapper._trainable_variables)
    assert layers_of([inner.kernel]) == [inner]


def test_a_variable_tied_to_another_layer_belongs_to_its_maker():
    class Tied(keras.Layer):
        def __init__(self, source):
            super().__init__()
            self.embeddings = source.embeddings

    table = built(keras.layers.Embedding(5, 3), (None, 2))
    Tied(table)
    assert layers_of([table.embeddings]) == [table]


def test_layers_are_found_in_models_however_they_were_made(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.Sequential([keras.layers.DepthwiseConv2D(3)]),
            keras.layers.TimeDistributed(keras.layers.Conv1D(2, 3)),
            keras.layers.Reshape((-1, 2)),
            keras.layers.Bidirectional(keras.layers.LSTM(2)),
        ]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = ["DepthwiseConv2D"] * 2 + ["Conv1D"] * 2 + ["LSTMCell"] * 6
    for one in (model, loaded, keras.models.clone_model(model)):
        found = layers_of(one.trainable_variables)
        assert [type(layer).__name__ for layer in found] == expected
        mine = [layer for layer in one._flatten_layers() if layer in found]
        assert {id(layer) for layer in mine} == {id(layer) for layer in found}


def test_a_variable_of_no_layer_has_none():
    assert layers_of([keras.Variable([1.0])]) == [None]


def test_what_one_survey_finds_the_next_question_is_answered_from(monkeypatch):
    layer = built(keras.layers.Dense(2), (None, 3))
    assert layers_of([layer.kernel]) == [layer]
    monkeypatch.setattr(layer_of_variable, "_surveyed", lambda things=None: 1 / 0)
    assert layers_of([layer.kernel, layer.bias]) == [layer, layer]


def test_a_variable_that_its_layer_gave_up_is_no_longer_found():
    layer = built(keras.layers.Dense(2), (None, 3))
    kernel = layer.kernel
    assert layers_of([kernel]) == [layer]
    layer._untrack_variable(kernel)
    assert layers_of([kernel]) == [None]


def test_the_survey_keeps_no_layer_alive():
    layer = built(keras.layers.Dense(2, name="short_lived"), (None, 3))
    kernel = layer.kernel
    layers_of([kernel])
    del layer
    gc.collect()
    assert layers_of([kernel]) == [None]


def test_a_layer_that_python_was_told_to_freeze_is_found():
    layers = {"held": built(keras.layers.Dense(2), (None, 3))}
    gc.freeze()
    assert not any(thing is layers["held"] for thing in gc.get_objects())
    assert layers_of([layers["held"].kernel]) == [layers["held"]]


def test_a_variable_outside_of_any_layer_costs_no_survey(monkeypatch):
    monkeypatch.setattr(layer_of_variable, "_surveyed", lambda things=None: 1 / 0)
    assert layers_of([keras.Variable([1.0], name="kernel")]) == [None]
