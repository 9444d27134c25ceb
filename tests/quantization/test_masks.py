"""Softmax with a mask, in whatever way the mask is written."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import kopt
from kopt.quantization._relevant_values import AddedMask, NearLargest
from tests.quantization.nearness import steps_apart
from tests.sampling import sampled

PLACES = 12
CAUSAL = np.tril(np.ones((1, PLACES, PLACES), "float32"))


def attention(probabilities, inputs=None):
    """Attention written with bare operations around a softmax of some kind."""
    keras.utils.set_random_seed(0)
    x = keras.Input((PLACES, 16), name="values")
    query, key, value = (layers.Dense(16)(x) for _ in range(3))
    scores = ops.matmul(query, ops.transpose(key, (0, 2, 1))) * 0.5
    extra = [] if inputs is None else [inputs]
    found = layers.Dense(4)(ops.matmul(probabilities(scores, *extra), value))
    return keras.Model([x, *extra] if extra else x, found)


@pytest.fixture
def sequences(random):
    return random.normal(size=(48, PLACES, 16)).astype("float32")


MASKS = {
    "by position, integer": lambda s: layers.Softmax()(s, CAUSAL.astype("int32")),
    "by name, boolean": lambda s: layers.Softmax()(s, mask=CAUSAL > 0),
    "over an axis in the middle": lambda s: ops.transpose(
        layers.Softmax(axis=1)(ops.transpose(s, (0, 2, 1)), CAUSAL.swapaxes(1, 2) > 0),
        (0, 2, 1),
    ),
    "added": lambda s: ops.softmax(s + (1 - CAUSAL) * -1e9),
    "added to a layer": lambda s: layers.Softmax()(s + (1 - CAUSAL) * -1e9),
    "lowest float": lambda s: layers.Activation("softmax")(
        s + (1 - CAUSAL) * np.finfo("float32").min
    ),
    "moderate": lambda s: ops.softmax(s + (1 - CAUSAL) * -100),
    "subtracted": lambda s: layers.Softmax()(s - (1 - CAUSAL) * 1e4),
    "selected": lambda s: ops.softmax(ops.where(CAUSAL > 0, s, -1e9)),
    "selected, infinite": lambda s: ops.softmax(ops.where(CAUSAL > 0, s, -np.inf)),
}


@pytest.mark.parametrize(
    "kind", sampled(MASKS, {"by position, integer", "added", "selected, infinite"})
)
def test_no_place_attends_to_what_is_masked(kind, sequences, tmp_path):
    model = attention(MASKS[kind])
    exact = model.predict(sequences, verbose=0)
    steps, report = steps_apart(model, sequences, tmp_path / "m.tflite")
    assert steps.max() < 4
    assert steps.mean(axis=(0, 2)).max() < 0.5
    assert report.float_tensors == ()
    # The range of the scores is not the one of the mask.
    change = np.abs(model.predict(sequences, verbose=0) - exact) / np.ptp(exact)
    assert change.mean(axis=(0, 2)).max() < 0.02


PADDINGS = {
    "added": lambda s, m: layers.Softmax()(s + ((1.0 - m) * -1e9)[:, None, :]),
    "layers": lambda s, m: layers.Softmax()(
        layers.Add()([s, layers.Reshape((1, PLACES))(layers.Rescaling(1e9, -1e9)(m))])
    ),
    "boolean": lambda s, m: layers.Softmax()(s, mask=ops.expand_dims(m, 1)),
    "integer": lambda s, m: layers.Softmax()(s, ops.expand_dims(m, 1)),
}
TYPES = {"boolean": "bool", "integer": "int32"}


@pytest.mark.parametrize("kind", sampled(PADDINGS, {"added"}))
def test_a_mask_that_is_an_input_holds_in_the_file(kind, sequences, tmp_path):
    dtype = TYPES.get(kind, "float32")
    model = attention(
        PADDINGS[kind], keras.Input((PLACES,), dtype=dtype, name="present")
    )
    present = np.ones((48, PLACES))
    present[:, 8:] = 0
    present[::3, 4:] = 0
    data = {"values": sequences, "present": present.astype(dtype)}
    steps, report = steps_apart(model, data, tmp_path / "m.tflite")
    assert steps.max() < 4
    assert report.float_tensors == ()


@keras.saving.register_keras_serializable("test masks")
class Attention(layers.Layer):
    """Attention as models written by hand have it, with a softmax layer inside."""

    def __init__(self, **options):
        super().__init__(**options)
        self.query, self.key, self.value = (
            layers.EinsumDense("btd,dhk->bthk", (None, 2, 8)) for _ in range(3)
        )
        self.softmax = layers.Softmax()

    def build(self, shape):
        for layer in (self.query, self.key, self.value):
            layer.build(shape)

    def call(self, x):
        scores = ops.einsum("bthk,buhk->bhtu", self.query(x), self.key(x)) * 8**-0.5
        places = ops.arange(x.shape[1])
        mask = ops.cast(places[:, None] >= places[None, :], "int32")[None, None]
        weights = self.softmax(scores, mask)
        return ops.einsum("bhtu,buhk->bthk", weights, self.value(x))


def test_a_mask_inside_of_a_layer_holds_in_the_file(sequences, tmp_path):
    keras.utils.set_random_seed(0)
    x = keras.Input((PLACES, 16))
    model = keras.Model(x, layers.Dense(4)(layers.Flatten()(Attention()(x))))
    steps, _ = steps_apart(model, sequences, tmp_path / "m.tflite")
    assert steps.max() < 4
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        again.predict(sequences, verbose=0), model.predict(sequences, verbose=0)
    )


def test_a_row_that_is_masked_as_a_whole_is_zero_as_in_keras(sequences):
    x, present = keras.Input((3, 4)), keras.Input((1, 4), dtype="bool")
    model = keras.Model(
        [x, present], layers.Dense(2, use_bias=False)(layers.Softmax()(x, present))
    )
    data = [sequences[:, :3, :4], np.zeros((48, 1, 4), "bool")]
    data[1][::2] = True
    kopt.quantization.quantize_model(model, calibration_data=data)
    assert (model.predict(data, verbose=0)[1::2] == 0).all()


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_attention_gives_padded_places_what_keras_does(dropout, random):
    x = keras.Input((PLACES,), dtype="int32")
    hidden = layers.Embedding(20, 16, mask_zero=True)(x)
    hidden = layers.MultiHeadAttention(2, 8, dropout=dropout)(hidden, hidden)
    model = keras.Model(x, hidden)
    words = random.integers(1, 20, (48, PLACES)).astype("int32")
    words[::2, 7:] = 0
    exact = model.predict(words, verbose=0)
    kopt.quantization.quantize_model(model, calibration_data=words)
    change = np.abs(model.predict(words, verbose=0) - exact)
    assert change.max() < 0.05 * np.ptp(exact)


def test_a_softmax_over_several_axes_stays_float(sequences):
    x = keras.Input((PLACES, 16))
    model = keras.Model(x, layers.Softmax(axis=(1, 2))(layers.Dense(4)(x)))
    kopt.quantization.quantize_model(model, calibration_data=sequences)
    (note,) = kopt.quantization.quantization_report(model).stays_float
    assert "several axes" in note.note


def test_only_values_near_the_largest_of_their_row_matter_to_a_softmax():
    # exp(-6.5) / 3: all that is masked in a row of three.
    scores = np.array([[1.0, -3.0, -1e9], [-2.0, -1e9, -1e9], [-1e9, -1e9, -1e9]])
    seen = NearLargest().relevant(scores).numpy()
    assert seen.max() == 1.0
    assert seen.min() == pytest.approx(-2.0 - 6.5 - np.log(3))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_mask_is_brought_near_the_values_that_are_none(sign):
    values = np.array([0.0, 2.0, -np.inf, -1e9])
    seen = AddedMask(subtracted=sign < 0).relevant(sign * values).numpy()
    np.testing.assert_array_equal(sign * seen, [0.0, 2.0, -64.0, -64.0])
