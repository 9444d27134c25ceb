import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.evaluation._data import inputs_and_labels

X, Y = np.arange(20.0).reshape(10, 2), np.arange(10)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return X[3 * index : 3 * index + 3], Y[3 * index : 3 * index + 3]


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        (X, Y, np.ones(10)),
        tf.data.Dataset.from_tensor_slices((X, Y)).batch(3),
        Batches(),
    ],
    ids=["pair", "with weights", "tf.data", "PyDataset"],
)
def test_pairs_come_whole_and_in_order(data):
    x, y = inputs_and_labels(data)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


@pytest.mark.parametrize(
    "data", [X, (X,), tf.data.Dataset.from_tensor_slices(X).batch(3)]
)
def test_inputs_may_come_alone(data):
    x, y = inputs_and_labels(data)
    np.testing.assert_array_equal(x, X)
    assert y is None


def test_several_inputs_and_outputs_keep_their_structure():
    data = tf.data.Dataset.from_tensor_slices(({"a": X, "b": Y}, (Y, X))).batch(4)
    x, y = inputs_and_labels(data)
    np.testing.assert_array_equal(x["a"], X)
    np.testing.assert_array_equal(y[1], X)


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="empty"):
        inputs_and_labels(tf.data.Dataset.from_tensor_slices((X, Y)).take(0))


def test_a_tuple_of_many_is_refused():
    with pytest.raises(ValueError, match="several inputs go into a dict or a list"):
        inputs_and_labels((X, X, X, Y))
