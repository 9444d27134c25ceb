"""Tables that are looked up in one direction and a kernel in the other."""

import keras
import numpy as np
import pytest
from keras import layers

from kopt.quantization import quantization_report, quantize_model
from tests.quantization.nearness import steps_apart
from tests.sampling import sampled

WORDS, PLACES, SIZE = 20, 6, 8


@pytest.fixture
def words(random):
    return random.integers(1, WORDS, (64, PLACES)).astype("int32")


def language_model(**options):
    """Words to a score for each word, by one table in both directions."""
    keras.utils.set_random_seed(0)
    table = layers.ReversibleEmbedding(
        WORDS, SIZE, embeddings_initializer="random_normal", name="table", **options
    )
    x = keras.Input((PLACES,), dtype="int32")
    hidden = layers.Dense(SIZE, activation="relu")(table(x))
    return keras.Model(x, table(layers.Dense(SIZE)(hidden), reverse=True))


KINDS = {
    "tied": {},
    "own kernel": {"tie_weights": False},
    "capped": {"logit_soft_cap": 0.05},
    "own kernel, capped": {"tie_weights": False, "logit_soft_cap": 0.05},
}


@pytest.mark.parametrize("kind", sampled(KINDS, {"tied"}))
def test_both_directions_are_integer_and_the_file_computes_them(kind, words, tmp_path):
    model = language_model(**KINDS[kind])
    exact = model.predict(words, verbose=0)
    steps, report = steps_apart(model, words, tmp_path / "m.tflite")
    assert quantization_report(model)["table"].state == "integer"
    assert report.float_tensors == ()
    assert steps.max() < 4
    change = np.abs(model.predict(words, verbose=0) - exact) / np.ptp(exact)
    assert change.mean() < 0.02


@pytest.mark.parametrize("kind", sampled(KINDS, {"tied"}))
def test_both_directions_are_trained(kind, words):
    model = language_model(**KINDS[kind])
    quantize_model(model, calibration_data=words)
    before = [one.numpy() for one in model.trainable_variables]
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(words, words, verbose=0)
    for one, values in zip(model.trainable_variables, before, strict=True):
        assert not np.array_equal(one, values), one.path


@pytest.mark.parametrize("kind", sampled(KINDS, {"own kernel"}))
def test_a_reversible_table_is_saved_with_its_ranges(kind, words, tmp_path):
    model = language_model(**KINDS[kind])
    quantize_model(model, calibration_data=words)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        loaded.predict(words, verbose=0), model.predict(words, verbose=0)
    )


def test_the_scores_lie_on_the_grid_of_each_word(words):
    # A grid of its own for each row: a row of small numbers keeps its 8 bits.
    model = language_model()
    table = model.get_layer("table")
    values = table.embeddings.numpy()
    values[3] *= 1e-3
    table.embeddings.assign(values)
    quantize_model(model, calibration_data=words)
    (grid,) = table.quantizer.weight_grids
    rounded = np.asarray(grid.fake_quantized(table))[3]
    assert np.abs(rounded - values[3]).max() <= np.abs(values[3]).max() / 127 * 0.51


def test_a_table_that_is_only_looked_up_needs_no_other_range(words, tmp_path):
    table = layers.ReversibleEmbedding(WORDS, SIZE)
    model = keras.Sequential(
        [keras.Input((PLACES,), dtype="int32"), table, layers.Dense(3)]
    )
    steps, report = steps_apart(model, words, tmp_path / "m.tflite")
    assert report.float_tensors == ()
    assert steps.max() < 2


def test_the_mask_of_a_quantized_table_goes_on(words):
    words[:, -2:] = 0
    keras.utils.set_random_seed(0)
    table = layers.ReversibleEmbedding(WORDS, SIZE, mask_zero=True)
    x = keras.Input((PLACES,), dtype="int32")
    model = keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(table(x))))
    exact = model.predict(words, verbose=0)
    quantize_model(model, calibration_data=words)
    rounded = model.predict(words, verbose=0)
    assert np.abs(rounded - exact).max() < 0.05 * np.ptp(exact)
