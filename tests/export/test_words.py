import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kopt
from kopt.export import Interpreter

NAMES = [f"u{number}" for number in range(50)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


@pytest.fixture
def words(random):
    return np.array(NAMES)[random.integers(0, 50, (32, 1))]


@pytest.fixture
def recommender():
    user = keras.Input((1,), dtype="string", name="user")
    age = keras.Input((1,), name="age")
    number = layers.StringLookup(vocabulary=NAMES, name="numbers")(user)
    vector = layers.Flatten()(layers.Embedding(51, 8)(number))
    return keras.Model(
        [user, age], layers.Dense(1)(layers.Concatenate()([vector, age]))
    )


@pytest.mark.parametrize("form", ["NumPy", "TensorFlow"])
def test_a_saved_model_takes_words(recommender, words, random, tmp_path, form):
    ages = random.normal(size=(32, 1)).astype("float32")
    x = {"user": tf.constant(words) if form == "TensorFlow" else words, "age": ages}
    report = kopt.export.saved_model(recommender, tmp_path / "saved", verify=x)
    assert report.verified and report.inputs["user"] == "string"
    loaded = tf.saved_model.load(tmp_path / "saved")
    tensors = [tf.constant(words), tf.constant(ages)]
    found, wanted = loaded.serve(tensors), recommender(tensors)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_saved_model_is_compared_on_words_that_it_knows(recommender, tmp_path):
    assert kopt.export.saved_model(recommender, tmp_path / "saved").verified


def test_numbers_are_no_words(recommender, tmp_path):
    x = {"user": np.zeros((4, 1)), "age": np.zeros((4, 1))}
    with pytest.raises(TypeError, match="must be strings"):
        kopt.export.saved_model(recommender, tmp_path / "saved", verify=x)


def test_a_file_of_words_is_refused_with_the_part_that_can_be_exported(
    recommender, words, random, path
):
    with pytest.raises(ValueError, match="'numbers' \\(StringLookup\\)") as caught:
        kopt.export.tflite(recommender, path)
    advised = "keras.Model([model.get_layer('numbers').output, model.inputs[1]]"
    assert advised in str(caught.value)
    part = keras.Model(
        [recommender.get_layer("numbers").output, recommender.inputs[1]],
        recommender.output,
    )
    kopt.export.tflite(part, path)
    ages = random.normal(size=(32, 1)).astype("float32")
    numbers = recommender.get_layer("numbers")(words)
    found = Interpreter(path).predict([numbers, ages])
    wanted = recommender([tf.constant(words), tf.constant(ages)])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_table_of_numbers_is_refused_too(path):
    table = layers.IntegerLookup(vocabulary=[3, 5, 7], name="rows")
    model = keras.Sequential(
        [keras.Input((1,), dtype="int64"), table, layers.Embedding(5, 4)]
    )
    with pytest.raises(ValueError, match="'rows' \\(IntegerLookup\\)"):
        kopt.export.tflite(model, path)


def test_text_is_averaged_where_padding_is_masked(random, path):
    inputs = keras.Input((6,), dtype="int32")
    embedded = layers.Embedding(20, 8, mask_zero=True)(inputs)
    outputs = layers.Dense(1)(layers.GlobalAveragePooling1D()(embedded))
    model = keras.Model(inputs, outputs)
    x = random.integers(1, 20, (100, 6)).astype("int32")
    x[:50, 4:] = 0
    report = kopt.export.tflite(model, path, "int8", x)
    assert report.verified and report.latency_ms > 0
    found = Interpreter(path).predict(x)
    np.testing.assert_allclose(found, model.predict(x, verbose=0), atol=5e-3)


def test_inputs_without_names_keep_the_model_s_order(random, path):
    # Twelve: sorted as words, the tenth would come before the second.
    inputs = [keras.Input((size,)) for size in range(1, 13)]
    model = keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(inputs)))
    x = [random.normal(size=(5, size)).astype("float32") for size in range(1, 13)]
    kopt.export.tflite(model, path, "int8", x)
    wanted = model.predict(x, verbose=0)
    np.testing.assert_allclose(Interpreter(path).predict(x), wanted, atol=0.1)
