import keras
import numpy as np
import pytest
from keras import layers

from kopt._signature import plain_names, signature_of


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def tiny():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="scores"),
        ]
    )


@pytest.fixture
def images(random):
    return random.normal(size=(40, 8, 8, 1)).astype("float32")


@pytest.fixture
def two_by_two():
    """Two inputs and two outputs, none in alphabetical order."""
    wide, deep = keras.Input((6,), name="wide"), keras.Input((6,), name="deep")
    zebra = keras.layers.Dense(3, name="zebra")(keras.layers.Subtract()([wide, deep]))
    return keras.Model([wide, deep], [zebra, keras.layers.Dense(1, name="ant")(wide)])


def test_inputs_come_in_the_model_s_own_order(two_by_two):
    signature = signature_of(two_by_two)
    assert list(signature.inputs) == ["wide", "deep"]
    assert signature.inputs["wide"].shape == (None, 6)


def test_outputs_bear_the_names_of_the_layers_that_make_them(two_by_two, random):
    x = {name: random.normal(size=(5, 6)) for name in ("wide", "deep")}
    found = signature_of(two_by_two).predict(x)
    expected = two_by_two.predict(x, verbose=0)
    np.testing.assert_allclose(found["zebra"], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found["ant"], expected[1], rtol=1e-5)


def test_a_dict_of_inputs_and_outputs_gives_its_keys(random):
    left, right = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    outputs = {"sum": keras.layers.Add()([left, right]), "copy": left * 1.0}
    model = keras.Model({"right": right, "left": left}, outputs)
    x = {"left": random.normal(size=(3, 2)), "right": random.normal(size=(3, 2))}
    found = signature_of(model).predict(x)
    assert set(signature_of(model).inputs) == {"left", "right"}
    np.testing.assert_allclose(found["sum"], x["left"] + x["right"], rtol=1e-6)
    np.testing.assert_allclose(found["copy"], x["left"], rtol=1e-6)


def test_a_sequential_model_has_one_input_of_a_plain_name(tiny):
    assert list(signature_of(tiny).inputs) == ["input"]


def test_a_subclassed_model_tells_what_it_was_called_with(random):
    class Difference(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs["a"] - inputs["b"])

    model = Difference()
    x = {"b": random.normal(size=(4, 3)), "a": random.normal(size=(4, 3))}
    expected = model(x)
    signature = signature_of(model)
    assert {name: spec.shape for name, spec in signature.inputs.items()} == {
        "a": (None, 3),
        "b": (None, 3),
    }
    (found,) = signature.predict(x).values()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_subclassed_model_of_several_arguments_gives_their_names(random):
    class Scaled(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def build(self, x_shape, scale_shape):
            self.dense.build(x_shape)

        def call(self, x, scale):
            return {"scaled": self.dense(x) * scale}

    model = Scaled()
    x = {"x": random.normal(size=(4, 3)), "scale": random.normal(size=(4, 1))}
    expected = model(x["x"], scale=x["scale"])["scaled"]
    found = signature_of(model).predict(x)
    np.testing.assert_allclose(found["scaled"], expected, rtol=1e-5)


def test_a_model_that_keeps_an_argument_to_itself_is_refused(random):
    class Scaled(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x, scale):
            return self.dense(x) * scale

    model = Scaled()
    model(np.ones((4, 3)), np.ones((4, 1)))
    with pytest.raises(ValueError, match="inside a functional model"):
        signature_of(model)


def test_prediction_by_batches_is_prediction_of_all(tiny, images):
    found = signature_of(tiny).predict({"input": images}, batch_size=7)
    np.testing.assert_allclose(found["scores"], tiny(images), rtol=1e-5, atol=1e-6)


def test_prediction_is_inference():
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dropout(0.9)])
    ones = np.ones((4, 50), "float32")
    (found,) = signature_of(model).predict({"input": ones}).values()
    np.testing.assert_array_equal(found, ones)


def test_the_batch_can_be_fixed(tiny):
    signature = signature_of(tiny)
    assert signature.with_batch(4).inputs["input"].shape == (4, 8, 8, 1)


def test_open_sizes_are_named_and_can_be_taken_from_samples():
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(2)])
    signature = signature_of(model)
    assert signature.open_inputs == ["input"]
    fixed = signature.with_shapes_of({"input": np.zeros((10, 7, 3))})
    assert fixed.inputs["input"].shape == (None, 7, 3)
    assert fixed.open_inputs == []


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (["alpha beta"], ["alpha_beta"]),
        (["_private"], ["private"]),
        (["", ""], ["input", "input_1"]),
        (["0"], ["input_0"]),
        (["a.b", "a_b"], ["a_b", "a_b_1"]),
        (["größe"], ["gr__e"]),
    ],
)
def test_names_are_made_fit_for_a_file(given, plain):
    assert plain_names(given, "input") == plain


class Noted(layers.GRUCell):
    """Counts how often its Python is run."""

    runs = 0

    def call(self, *args, **kwargs):
        Noted.runs += 1
        return super().call(*args, **kwargs)


def test_a_prediction_runs_a_recurrent_layer_step_by_step_only_once():
    counts = []
    for samples, steps in ((8, 3), (40, 12)):
        model = keras.Sequential([keras.Input((steps, 2)), layers.RNN(Noted(4))])
        x = np.random.default_rng(0).normal(size=(samples, steps, 2)).astype("float32")
        exact = np.asarray(model(x))
        Noted.runs = 0
        (found,) = signature_of(model).predict({"input": x}, 16).values()
        counts.append(Noted.runs)
        np.testing.assert_allclose(found, exact, atol=1e-6)
    assert counts[0] == counts[1]
