import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.quantization._batches import input_batches


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


@pytest.fixture
def two_inputs():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    return keras.Model([a, b], keras.layers.Add()([a, b]))


@pytest.fixture
def x(random):
    return random.normal(size=(70, 2)).astype("float32")


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 3

    def __getitem__(self, number):
        part = self.x[number * 30 : (number + 1) * 30]
        return part, np.zeros(len(part))


FORMS = {
    "array": lambda x: x,
    "tensor": tf.constant,
    "tuple with targets": lambda x: (x, np.zeros(70)),
    "tuple with weights": lambda x: (x, np.zeros(70), np.ones(70)),
    "dataset": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(32),
    "dataset with targets": lambda x: tf.data.Dataset.from_tensor_slices(
        (x, np.zeros(70))
    ).batch(32),
    "list of batches": lambda x: [x[:32], x[32:]],
    "list of batches with targets": lambda x: [(x[:32], 0), (x[32:], 0)],
    "generator": lambda x: (x[start : start + 10] for start in range(0, 70, 10)),
    "PyDataset": Batches,
}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_all_samples_come_in_order_whatever_the_form(model, x, form):
    first, batches = input_batches(model, FORMS[form](x))
    batches = list(batches)
    np.testing.assert_array_equal(np.concatenate(batches), x)
    np.testing.assert_array_equal(first, batches[0])


def test_an_array_is_cut_into_batches(model, x):
    _, batches = input_batches(model, x, batch_size=32)
    assert [len(batch) for batch in batches] == [32, 32, 6]


@pytest.mark.parametrize("wrap", [list, lambda pair: (list(pair), np.zeros(70))])
def test_a_list_with_an_array_for_each_input_is_cut_together(two_inputs, x, wrap):
    _, batches = input_batches(two_inputs, wrap((x, 2 * x)))
    parts = list(batches)
    assert len(parts) == 3
    np.testing.assert_array_equal(parts[2][1], 2 * x[64:])


def test_a_dict_of_arrays_is_cut_together(two_inputs, x):
    _, batches = input_batches(two_inputs, {"a": x, "b": 2 * x})
    np.testing.assert_array_equal(list(batches)[1]["b"], 2 * x[32:64])


@pytest.mark.parametrize("empty", [np.zeros((0, 2), "float32"), [], iter(())])
def test_no_samples_is_an_error(model, empty):
    with pytest.raises(ValueError, match="hold no samples"):
        input_batches(model, empty)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_name_their_batch(model, x, bad):
    x[40, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite values in batch 1"):
        list(input_batches(model, x)[1])


@pytest.mark.parametrize("data", [3, "images", None])
def test_what_is_no_data_is_named(model, data):
    with pytest.raises(TypeError, match="must hold samples"):
        input_batches(model, data)


@pytest.mark.parametrize("shape", [(70, 3), (70,), (70, 2, 2)])
def test_samples_of_another_shape_are_refused_with_the_right_one(model, shape):
    with pytest.raises(ValueError, match=r"shape \(samples, 2\). Received: \("):
        input_batches(model, np.zeros(shape))


def test_a_later_batch_of_another_shape_is_named(model, x):
    _, batches = input_batches(model, [x, x[:, :1]])
    with pytest.raises(ValueError, match=r"Received: \(70, 1\) in batch 1"):
        list(batches)


def test_the_input_of_another_shape_is_named(two_inputs, x):
    with pytest.raises(ValueError, match="for the input 'b' must have the shape"):
        input_batches(two_inputs, {"a": x, "b": x[:, :1]})


def test_an_axis_that_keras_adds_or_drops_may_be_missing_or_there():
    one = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    for shape in [(5,), (5, 1), (5, 1, 1)]:
        input_batches(one, np.zeros(shape))


def test_a_size_that_the_model_leaves_open_may_be_any():
    steps = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(1)])
    input_batches(steps, [np.zeros((3, 4, 2)), np.zeros((3, 9, 2))])
