"""Attention layers without and with groups of queries, in the model and in the file."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import kopt
from kopt._keras.origins import KERAS_HUB
from kopt.quantization import quantization_report, quantize_model
from tests.quantization.nearness import steps_apart
from tests.sampling import sampled

PLACES, SIZE = 10, 12


@pytest.fixture
def sequences(random):
    return random.normal(size=(48, PLACES, SIZE)).astype("float32")


def network(attend, *, masked=False):
    """Queries, keys and values of an attention, and a layer behind it."""
    keras.utils.set_random_seed(0)
    x = keras.Input((PLACES, SIZE), name="values")
    hidden = layers.Masking(0.0)(x) if masked else x
    hidden = layers.Dense(SIZE)(hidden)
    found = attend(hidden, layers.Dense(SIZE)(hidden))
    return keras.Model(x, layers.Dense(3)(found))


def dot(kind=layers.Attention, *, call=None, **options):
    """An attention with queries and keys alike, made anew for each model."""

    def attend(query, value):
        return kind(name="attend", **options)([query, value, query], **(call or {}))

    return attend


def heads(kind, *arguments, call=None, **options):
    """An attention with heads, made anew for each model."""

    def attend(query, value):
        layer = kind(*arguments, name="attend", **options)
        return layer(query, value, **(call or {}))

    return attend


CAUSAL = {"use_causal_mask": True}
GROUPED = layers.GroupQueryAttention
ATTENTIONS = {
    "dot": dot(),
    "dot, scaled": dot(use_scale=True),
    "dot, causal": dot(call=CAUSAL),
    "concat": dot(score_mode="concat"),
    "concat, scaled": dot(score_mode="concat", use_scale=True),
    "additive": dot(layers.AdditiveAttention),
    "additive, unscaled": dot(layers.AdditiveAttention, use_scale=False),
    "additive, causal": dot(layers.AdditiveAttention, call=CAUSAL),
    "grouped": heads(GROUPED, 4, 6, 2),
    "grouped, one group": heads(GROUPED, 4, 3, 1),
    "grouped, a head a group": heads(GROUPED, 4, 2, 2, use_bias=False),
    "grouped, causal": heads(GROUPED, 4, 4, 2, call=CAUSAL),
    "grouped, window": heads(GROUPED, 4, 4, 2, sliding_window=2),
    "many heads, window": heads(layers.MultiHeadAttention, 2, 4, sliding_window=2),
}


@pytest.mark.parametrize("masked", sampled([False, True], [False]))
@pytest.mark.parametrize("kind", sampled(ATTENTIONS, {"additive", "grouped, causal"}))
def test_an_attention_is_integer_and_its_file_computes_the_same(
    kind, masked, sequences, tmp_path
):
    if masked:
        sequences[::2, -4:] = 0.0
    model = network(ATTENTIONS[kind], masked=masked)
    exact = model.predict(sequences, verbose=0)
    steps, report = steps_apart(model, sequences, tmp_path / "m.tflite")
    assert quantization_report(model)["attend"].state == "integer"
    # A `Masking` layer compares floats.
    assert masked or report.float_tensors == ()
    assert steps.max() < 5
    assert steps.mean(axis=(0, 2)).max() < 0.6
    change = np.abs(model.predict(sequences, verbose=0) - exact) / np.ptp(exact)
    assert change.mean(axis=(0, 2)).max() < 0.02


@pytest.mark.parametrize("kind", sampled(ATTENTIONS, {"grouped"}))
def test_all_weights_of_a_quantized_attention_get_gradients(kind, sequences):
    model = network(ATTENTIONS[kind])
    quantize_model(model, calibration_data=sequences)
    model.compile("sgd", "mse")
    before = [one.numpy() for one in model.trainable_variables]
    model.fit(sequences, np.ones((48, PLACES, 3)), epochs=2, verbose=0)
    # Adding the same to all scores changes nothing: a bias of keys moves nowhere.
    still = [
        one.path
        for one, values in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(one, values) and "key/bias" not in one.path
    ]
    assert still == []


@pytest.mark.parametrize("kind", sampled(ATTENTIONS, {"dot, scaled"}))
def test_a_quantized_attention_is_saved_with_its_ranges(kind, sequences, tmp_path):
    model = network(ATTENTIONS[kind])
    quantize_model(model, calibration_data=sequences)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        loaded.predict(sequences, verbose=0), model.predict(sequences, verbose=0)
    )


@pytest.mark.parametrize("kind", sampled(ATTENTIONS, {"grouped"}))
def test_stripped_an_attention_computes_in_float_again(kind, sequences):
    model = network(ATTENTIONS[kind])
    exact = model.predict(sequences, verbose=0)
    quantize_model(model, calibration_data=sequences)
    kopt.quantization.strip_quantization(model)
    np.testing.assert_array_equal(model.predict(sequences, verbose=0), exact)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Attention(use_scale=True, dropout=0.5),
        layers.GroupQueryAttention(4, 4, 2, dropout=0.5),
    ],
    ids=["dot", "grouped"],
)
def test_scores_that_are_asked_for_are_those_of_the_float_layer(layer, sequences):
    x = keras.Input((PLACES, SIZE))
    arguments = ([x, x],) if isinstance(layer, layers.Attention) else (x, x)
    results = layer(*arguments, return_attention_scores=True, use_causal_mask=True)
    model = keras.Model(x, [layers.Dense(2)(results[0]), results[1]])
    exact = model.predict(sequences, verbose=0)[1]
    quantize_model(model, calibration_data=sequences)
    found = model.predict(sequences, verbose=0)[1]
    np.testing.assert_allclose(found, exact, atol=0.1)
    assert not found[..., *np.triu_indices(PLACES, 1)].any()


class Squared(layers.Attention):
    """Scores of its own, `call` of its base."""

    def _calculate_scores(self, query, key):
        return ops.square(super()._calculate_scores(query, key))


class Averaging(layers.MultiHeadAttention):
    def _compute_attention(self, query, key, value, *args, **kwargs):
        return ops.mean(value, axis=1, keepdims=True) + 0.0 * query, None


class AveragingGroups(layers.GroupQueryAttention):
    def _compute_attention(self, query, key, value, *args, **kwargs):
        return ops.mean(value, axis=1, keepdims=True) + 0.0 * query, None


@pytest.mark.parametrize(
    "attend",
    [dot(Squared), heads(Averaging, 2, 4), heads(AveragingGroups, 4, 4, 2)],
)
def test_a_subclass_with_a_step_of_its_own_stays_float(attend, sequences):
    model = network(attend)
    exact = model.predict(sequences, verbose=0)
    quantize_model(model, calibration_data=sequences)
    layer = quantization_report(model)["attend"]
    assert layer.state == "float" and "of its own" in layer.note
    rounded = model.predict(sequences, verbose=0)
    assert np.abs(rounded - exact).mean() < 0.02 * np.ptp(exact)


def test_groups_with_a_gate_stay_float(sequences):
    model = network(heads(GROUPED, 4, 4, 2, use_gate=True))
    quantize_model(model, calibration_data=sequences)
    layer = quantization_report(model)["attend"]
    assert (layer.state, layer.note) == ("float", "its attention has a gate")


class CachedMultiHeadAttention(layers.MultiHeadAttention):
    """The form that KerasHub's has: keys and values of earlier places come along."""

    __module__ = f"{KERAS_HUB}.cached_multi_head_attention"

    def call(
        self,
        query,
        value,
        key=None,
        attention_mask=None,
        cache=None,
        cache_update_index=None,
        return_attention_scores=False,
        training=None,
    ):
        if cache is None:
            return super().call(query, value, key, attention_mask=attention_mask)
        return super().call(query, cache)


def test_an_attention_with_a_cache_is_integer_where_no_cache_comes_in(
    sequences, tmp_path
):
    causal = np.tril(np.ones((1, PLACES, PLACES), bool))
    layer = CachedMultiHeadAttention(2, 4, name="attend")
    model = network(lambda query, value: layer(query, value, attention_mask=causal))
    exact = np.asarray(layer(sequences, sequences, cache=sequences[:, :3]))
    steps, report = steps_apart(model, sequences, tmp_path / "m.tflite")
    assert quantization_report(model)["attend"].state == "integer"
    assert report.float_tensors == ()
    assert steps.max() < 5
    # With one it computes with weights on their grids, and rounds nothing within.
    rounded = np.asarray(layer(sequences, sequences, cache=sequences[:, :3]))
    assert np.abs(rounded - exact).mean() < 0.02 * np.ptp(exact)


class Rotated(layers.Layer):
    """Turns each pair of features by an angle that grows with the place."""

    def call(self, inputs):
        places = ops.arange(inputs.shape[1], dtype="float32")[:, None, None]
        half = inputs.shape[-1] // 2
        angles = places / 10.0 ** (ops.arange(half, dtype="float32") / half)
        first, second = inputs[..., :half], inputs[..., half:]
        turned = (
            first * ops.cos(angles) - second * ops.sin(angles),
            second * ops.cos(angles) + first * ops.sin(angles),
        )
        return ops.concatenate(turned, axis=-1)


class Rotary(layers.Layer):
    """An attention as language models have it, made of dense layers and a softmax."""

    def build(self, shape):
        for part, heads in (("query", 4), ("key", 2), ("value", 2)):
            dense = layers.EinsumDense("bqm,muh->bquh", (None, heads, 4), name=part)
            setattr(self, part, dense)
        self.rotated, self.probabilities = Rotated(name="rotated"), layers.Softmax()
        self.back = layers.EinsumDense("bquh,uhm->bqm", (None, SIZE), name="back")

    def call(self, inputs):
        query = self.rotated(self.query(inputs))
        key = ops.repeat(self.rotated(self.key(inputs)), 2, axis=2)
        value = ops.repeat(self.value(inputs), 2, axis=2)
        scores = ops.einsum("bquh,bkuh->buqk", query, key) * 0.5
        keep = np.tril(np.ones((1, 1, PLACES, PLACES), bool))
        selected = self.probabilities(scores, mask=keep)
        return self.back(ops.einsum("buqk,bkuh->bquh", selected, value))


@pytest.mark.slow
def test_rotary_attention_written_by_hand_is_a_float_island_that_the_file_keeps(
    sequences, tmp_path
):
    keras.utils.set_random_seed(0)
    x = keras.Input((PLACES, SIZE))
    hidden = x + Rotary(name="attend")(layers.RMSNormalization(name="norm")(x))
    model = keras.Model(x, layers.Dense(3)(hidden))
    steps, _ = steps_apart(model, sequences, tmp_path / "m.tflite")
    states = {
        one.name.split("/")[-1]: one.state for one in quantization_report(model).layers
    }
    assert states["rotated"] == states["norm"] == "float"
    assert states["query"] == states["back"] == "integer"
    assert steps.max() < 5
    assert steps.mean(axis=(0, 2)).max() < 0.6
