import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt._keras.swapped_variables import (
    SwappedVariables,
    assignments_last,
    values_are_real,
)


@pytest.fixture
def weight():
    return keras.Variable(np.ones(3, "float32"))


def test_a_swapped_variable_reads_as_the_tensor_and_keeps_its_value(weight):
    with SwappedVariables([(weight, keras.ops.zeros(3))]):
        np.testing.assert_array_equal(weight.value, np.zeros(3))
    np.testing.assert_array_equal(weight.value, np.ones(3))


def test_other_variables_read_as_they_are(weight):
    other = keras.Variable(2.0)
    with SwappedVariables([(weight, keras.ops.zeros(3))]):
        assert float(other.value) == 2.0


def test_what_is_assigned_inside_is_assigned_on_leaving(weight):
    statistic = keras.Variable(0.0)
    with SwappedVariables([(weight, keras.ops.zeros(3))]):
        statistic.assign(5.0)
        assert float(statistic.value) == 5.0
    assert float(statistic.value) == 5.0


def test_nothing_is_assigned_after_an_error(weight):
    statistic = keras.Variable(0.0)
    with pytest.raises(ZeroDivisionError), SwappedVariables([]):
        statistic.assign(5.0)
        _ = 1 / 0
    assert float(statistic.value) == 0.0


def test_an_outer_scope_still_answers_for_its_variables(weight):
    other = keras.Variable(1.0)
    with (
        SwappedVariables([(other, keras.ops.zeros(()))]),
        SwappedVariables([(weight, keras.ops.zeros(3))]),
    ):
        assert float(other.value) == 0.0


def test_updates_of_an_inner_scope_reach_the_outer_one(weight):
    statistic = keras.Variable(0.0)
    with keras.StatelessScope() as outer:
        with SwappedVariables([(weight, keras.ops.zeros(3))]):
            statistic.assign(5.0)
        assert float(outer.get_current_value(statistic)) == 5.0
    assert float(statistic.value) == 0.0


def test_batch_normalization_and_dropout_inside_move_their_state():
    norm, dropout = keras.layers.BatchNormalization(), keras.layers.Dropout(0.5, seed=1)
    x = np.random.default_rng(0).normal(3.0, 1.0, (64, 4)).astype("float32")
    norm(x)
    seed = dropout.seed_generator.state.numpy().copy()
    with SwappedVariables([(norm.gamma, keras.ops.ones(4))]):
        dropout(norm(x, training=True), training=True)
    assert (norm.moving_mean.numpy() > 0.01).all()
    assert (dropout.seed_generator.state.numpy() != seed).any()


def test_values_are_real_in_eager_calls_and_in_graphs():
    seen = []

    def note(x):
        seen.append(values_are_real())
        return x

    note(tf.ones(2))
    tf.function(note)(tf.ones(2))
    assert seen == [True, True]


def test_values_are_not_real_while_keras_infers_shapes():
    seen = []

    class Note(keras.layers.Layer):
        def call(self, inputs):
            seen.append(values_are_real())
            return inputs

    Note()(keras.Input((2,)))
    assert seen == [False]


def test_assignments_last_in_a_scope_of_swapped_variables_alone():
    variable = keras.Variable(1.0)
    assert assignments_last()
    with SwappedVariables([(variable, keras.ops.ones(()))]):
        assert assignments_last()
    with keras.StatelessScope():
        assert not assignments_last()
        with SwappedVariables([]):
            assert not assignments_last()
