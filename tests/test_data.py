import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt import _data
from kopt.callbacks._statistics import batches_of
from kopt.evaluation._data import inputs_and_labels
from kopt.export import _samples
from kopt.quantization._batches import input_batches

X = np.arange(64, dtype="float32").reshape(16, 4) / 64
Y = np.arange(16)


class InBatches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, number):
        chosen = slice(number * 4, number * 4 + 4)
        return X[chosen], Y[chosen]


def in_batches():
    for start in range(0, 16, 5):
        yield X[start : start + 5]


SLICES = tf.data.Dataset.from_tensor_slices
FORMS = {
    "array": lambda: X,
    "tensor": lambda: tf.constant(X),
    "list of one array": lambda: [X],
    "dict": lambda: {"row": X},
    "x and y": lambda: (X, Y),
    "data set": lambda: SLICES(X).batch(5),
    "data set of samples": lambda: SLICES(X),
    "data set of x and y": lambda: SLICES((X, Y)).batch(5),
    "data set of samples, x and y": lambda: SLICES((X, Y)),
    "data set of dicts": lambda: SLICES({"row": X}).batch(5),
    "data set of dicts with more in them": lambda: SLICES({"row": X, "id": Y}),
    "list of batches": lambda: list(in_batches()),
    "list of batches of one": lambda: [X[k : k + 1] for k in range(16)],
    "list of samples": lambda: list(X),
    "list of batches of dicts": lambda: [{"row": batch} for batch in in_batches()],
    "list of x and y": lambda: [(X[:9], Y[:9]), (X[9:], Y[9:])],
    "generator": in_batches,
    "function": lambda: in_batches,
    "PyDataset": InBatches,
}


@pytest.fixture
def model():
    return keras.Sequential(
        [keras.Input((4,), name="row"), keras.layers.Dense(8), keras.layers.Dense(2)]
    )


def values(x):
    """The samples of one batch in any structure."""
    (leaf,) = keras.tree.flatten(x)
    return np.asarray(leaf)


READERS = {
    "export": lambda model, data: _samples.named_samples(
        "data", data, _data.specs_of(model)
    )["row"],
    "quantization": lambda model, data: np.concatenate(
        [values(batch) for batch in input_batches(model, data)[1]]
    ),
    "evaluation": lambda model, data: values(
        _data.inputs_alone(
            inputs_and_labels(data, _data.specs_of(model))[0], _data.specs_of(model)
        )
    ),
    "statistics": lambda model, data: np.concatenate(
        [values(batch) for batch in batches_of(data, 100, model)]
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reader", READERS)
def test_every_verb_reads_every_form(model, form, reader):
    data = FORMS[form]()
    np.testing.assert_array_equal(READERS[reader](model, data), X)


@pytest.mark.parametrize("form", [form for form in FORMS if "y" in form.split()])
def test_targets_stay_beside_their_samples(model, form):
    x, y = inputs_and_labels(FORMS[form](), _data.specs_of(model))
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


TWO = {
    "list": lambda: [X, 2 * X],
    "tuple": lambda: (X, 2 * X),
    "list and y": lambda: ([X, 2 * X], Y),
    "dict in another order": lambda: {"second": 2 * X, "first": X},
    "data set of samples": lambda: SLICES(({"first": X, "second": 2 * X}, Y)),
    "batches of lists": lambda: [[X[:3], 2 * X[:3]], [X[3:], 2 * X[3:]]],
    "function": lambda: lambda: iter([{"first": X, "second": 2 * X}]),
}


@pytest.mark.parametrize("form", TWO)
def test_two_inputs_keep_their_own_samples(form):
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    model = keras.Model([first, second], keras.layers.Subtract()([first, second]))
    specs = _data.specs_of(model)
    named = _samples.named_samples("data", TWO[form](), specs)
    np.testing.assert_array_equal(named["second"], 2 * named["first"])
    _, batches = input_batches(model, TWO[form]())
    found = np.concatenate([model(batch) for batch in batches])
    np.testing.assert_array_equal(found, -X)


def test_single_samples_are_gathered_to_batches(model):
    _, batches = input_batches(model, SLICES(X), batch_size=6)
    assert [len(batch) for batch in batches] == [6, 6, 4]


def test_single_samples_of_several_sizes_are_batches_of_their_own():
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(1)])
    samples = [np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((5, 2))]
    _, batches = input_batches(model, samples)
    assert [batch.shape[:2] for batch in batches] == [(2, 3), (1, 5)]


def test_samples_of_a_subclassed_model_are_told_from_batches():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    model = Net()
    model(X)
    kopt.quantization.quantize_model(model, calibration_data=SLICES(X))
    wanted = model(X)
    assert np.isfinite(wanted).all()
