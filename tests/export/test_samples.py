import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.export import _samples

ONE = {"x": tf.TensorSpec([None, 3], "float32", "x")}
TWO = {
    "wide": tf.TensorSpec([None, 3], "float32", "wide"),
    "deep": tf.TensorSpec([None, 2], "int32", "deep"),
}
X = np.arange(24, dtype="float64").reshape(8, 3)
IDS = np.arange(16).reshape(8, 2)


def batches():
    yield [X[:5]]
    yield [X[5:]]


@pytest.mark.parametrize(
    "data",
    [
        X,
        [X],
        (X, np.zeros(8)),
        {"x": X},
        batches,
        tf.data.Dataset.from_tensor_slices(X).batch(3),
        tf.data.Dataset.from_tensor_slices(X),
        tf.data.Dataset.from_tensor_slices((X, np.zeros(8))).batch(3),
        keras.ops.convert_to_tensor(X),
    ],
    ids=[
        "array",
        "list",
        "x and y",
        "dict",
        "function",
        "batched data set",
        "data set of samples",
        "data set of x and y",
        "tensor",
    ],
)
def test_whatever_holds_samples_becomes_one_array_an_input(data):
    found = _samples.named_samples("data", data, ONE)
    assert list(found) == ["x"] and found["x"].dtype == "float32"
    np.testing.assert_array_equal(found["x"], X)


@pytest.mark.parametrize(
    "data",
    [
        [X, IDS],
        (X, IDS),
        ([X, IDS], np.zeros(8)),
        {"deep": IDS, "wide": X},
        tf.data.Dataset.from_tensor_slices(({"deep": IDS, "wide": X}, X)).batch(5),
        lambda: iter([[X, IDS]]),
    ],
    ids=["list", "tuple", "x and y", "dict", "data set", "function"],
)
def test_several_inputs_keep_their_own_samples(data):
    found = _samples.named_samples("data", data, TWO)
    np.testing.assert_array_equal(found["wide"], X)
    np.testing.assert_array_equal(found["deep"], IDS)
    assert found["deep"].dtype == "int32"


def test_at_most_a_thousand_samples_are_spread_over_an_array():
    many = np.arange(5000.0)[:, None].repeat(3, axis=1)
    found = _samples.named_samples("data", many, ONE)["x"][:, 0]
    assert len(found) == 1000 and found[0] == 0 and found[-1] == 4999
    assert np.diff(found).max() <= 6


def test_a_data_set_without_end_ends():
    endless = tf.data.Dataset.from_tensor_slices(X).repeat().batch(64)
    assert len(_samples.named_samples("data", endless, ONE)["x"]) == 1000


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    broken = X.copy()
    broken[3, 1] = bad
    with pytest.raises(ValueError, match="`data` for the input 'x' has NaN or inf"):
        _samples.named_samples("data", broken, ONE)


def test_a_wrong_shape_is_refused_with_the_right_one():
    with pytest.raises(ValueError, match=r"shape \(samples, 3\). Received: \(8, 4\)"):
        _samples.named_samples("data", np.zeros((8, 4)), ONE)


def test_a_sample_without_a_batch_axis_is_refused():
    with pytest.raises(ValueError, match=r"shape \(samples, 3\)"):
        _samples.named_samples("data", np.zeros(3), ONE)


@pytest.mark.parametrize("empty", [np.zeros((0, 3)), lambda: iter([])])
def test_no_samples_at_all_are_refused(empty):
    with pytest.raises(ValueError, match=r"at least one|is empty"):
        _samples.named_samples("data", empty, ONE)


def test_inputs_with_different_numbers_of_samples_are_refused():
    with pytest.raises(ValueError, match="same number of samples"):
        _samples.named_samples("data", [X, IDS[:4]], TWO)


def test_a_dict_with_other_names_is_refused():
    with pytest.raises(ValueError, match=r"wide, deep\. Received: wide, depe"):
        _samples.named_samples("data", {"wide": X, "depe": IDS}, TWO)


def test_one_array_for_two_inputs_is_refused():
    with pytest.raises(ValueError, match="one array for each input"):
        _samples.named_samples("data", X, TWO)


def test_scaled_images_for_an_input_of_bytes_are_refused():
    pixels = {"x": tf.TensorSpec([None, 3], "uint8", "x")}
    with pytest.raises(ValueError, match="whole numbers"):
        _samples.named_samples("data", X / 255, pixels)


@pytest.mark.parametrize("nothing", [3, "images", None])
def test_what_holds_no_samples_is_refused(nothing):
    with pytest.raises(TypeError, match="must hold samples"):
        _samples.named_samples("data", nothing, ONE)


def test_words_are_refused():
    with pytest.raises(TypeError, match="must be numbers"):
        _samples.named_samples("data", np.array([["a", "b", "c"]]), ONE)


def test_spreading_keeps_the_pairs_of_inputs():
    found = _samples.spread({"a": np.arange(90), "b": np.arange(90) * 2}, 10)
    np.testing.assert_array_equal(found["b"], found["a"] * 2)
    assert len(found["a"]) == 10


def test_random_samples_stay_in_a_known_range():
    found = _samples.random_samples(ONE, {"x": (5.0, 6.0)}, None)["x"]
    assert found.shape == (32, 3) and 5.0 <= found.min() < found.max() <= 6.0


def test_random_samples_for_a_table_are_rows_that_it_has():
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(7, 2),
        ]
    )
    rows = _samples.smallest_table(model)
    found = _samples.random_samples(ONE, {}, rows)["x"]
    assert rows == 7 and set(np.unique(found)) == set(range(7))


def test_random_samples_fill_sizes_that_are_open():
    open_size = {"x": tf.TensorSpec([None, None, 3], "float32", "x")}
    assert _samples.random_samples(open_size, {}, None)["x"].shape == (32, 32, 3)


def test_random_samples_are_the_same_every_time():
    first, second = (_samples.random_samples(ONE, {}, None)["x"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
