"""Canaries: what a pass through a model reads and moves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt._keras.model_state import (
    make_unseeded_generator,
    model_state,
    moved_by_passes,
    other_variables,
    state_kept,
)
from tests.sharpness.nets import mlp


def ids(variables):
    return {id(variable) for variable in variables}


class Counter(keras.layers.Layer):
    """Counts its calls in every kind of variable that Keras does not track."""

    def __init__(self):
        super().__init__()
        self.mean = keras.metrics.Mean()
        vars(self)["own"] = keras.Variable(0.0, trainable=False)
        vars(self)["raw"] = tf.Variable(0.0)

    def call(self, x):
        self.mean.update_state(x)
        self.own.assign_add(1.0)
        self.raw.assign_add(1.0)
        return x


def with_state():
    return keras.Sequential(
        [
            keras.Input(batch_shape=(2, 3, 4)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            Counter(),
            keras.layers.Bidirectional(keras.layers.LSTM(2, stateful=True)),
        ]
    )


def test_seeds_and_statistics_are_among_the_other_variables():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
        ]
    )
    normal, dropout = model.layers
    expected = [normal.moving_mean, normal.moving_variance]
    expected.append(dropout.seed_generator.state)
    assert ids(other_variables(model)) >= ids(expected)


def test_unseeded_random_numbers_move_one_of_them():
    make_unseeded_generator()
    *_, unseeded = other_variables(mlp())
    before = unseeded.numpy()
    keras.random.uniform((1,))
    assert np.any(unseeded.numpy() != before)


def test_the_state_begins_with_what_keras_lists():
    model = with_state()
    found = model_state(model)[: len(model.variables)]
    assert [id(one) for one in found] == [id(one) for one in model.variables]


@pytest.mark.parametrize("in_a_graph", [False, True])
def test_passes_of_ones_own_leave_no_trace_in_a_model(in_a_graph):
    make_unseeded_generator()
    model = with_state()
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    model(x, training=True)
    before = [np.array(variable) for variable in model_state(model)]

    def passes():
        with state_kept(model):
            model(x, training=True)
            model(x + 1.0, training=True)

    tf.function(passes)() if in_a_graph else passes()
    after = [np.array(variable) for variable in model_state(model)]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    model(x, training=True)
    pairs = zip(model_state(model), before, strict=True)
    moved = [np.any(np.array(v) != b) for v, b in pairs]
    # Two statistics, a seed, the counter's total, count and two, two times two states.
    assert sum(moved) == 2 + 1 + 4 + 4


def test_what_is_to_move_keeps_its_value():
    model = with_state()
    statistics = model.layers[0].moving_mean
    with state_kept(model, moving=[statistics]):
        model(np.ones((2, 3, 4), "float32"), training=True)
    assert np.all(statistics.numpy() != 0)
    assert np.all(model.layers[0].moving_variance.numpy() == 1)


def test_state_is_put_back_after_an_error():
    model = with_state()
    with pytest.raises(ZeroDivisionError), state_kept(model):
        model(np.ones((2, 3, 4), "float32"), training=True)
        _ = 1 / 0
    assert np.all(model.layers[0].moving_mean.numpy() == 0)


def test_the_source_of_unseeded_numbers_is_made_without_a_draw_from_python():
    import random

    keras.utils.clear_session()
    random.seed(0)
    expected = random.Random(0).random()
    make_unseeded_generator()
    assert random.random() == expected


def test_masks_belong_to_a_model_but_no_pass_reads_them():
    model = mlp()
    kopt.pruning.prune_low_magnitude(model, kopt.pruning.OneShot(0.5))
    constraints = [weight.constraint for weight in model.weights]
    masks = {id(one.mask) for one in constraints if one is not None}
    assert masks and masks <= ids(model_state(model))
    assert not masks & ids(other_variables(model))


def test_a_pass_moves_statistics_seeds_and_metrics_but_no_frozen_weight():
    norm, drop = keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)
    frozen = keras.layers.Dense(3, trainable=False)
    model = keras.Sequential([keras.Input((2,)), frozen, norm, drop])
    model.add(keras.layers.Dense(1))
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    moved = ids(moved_by_passes(model))
    assert moved >= ids([*norm.non_trainable_variables, drop.seed_generator.state])
    assert moved >= ids(model.metrics_variables)
    assert not moved & ids([*frozen.variables, *model.trainable_variables])
