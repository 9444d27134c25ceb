"""Laws of what a training step cuts off: it is said once, with the layer."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.quantization._saturation import _some_of

X = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
Y = np.zeros((32, 3), "float32")


def frozen_model(scale=1.0, **options):
    """A model whose ranges were made for inputs of some size, and stand still."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, name="only")])
    config = kopt.quantization.Int8(**options)
    kopt.quantization.quantize_model(model, config, calibration_data=scale * X)
    return kopt.quantization.freeze_ranges(model)


def step(model, jit=False):
    model.compile("sgd", "mse", jit_compile=jit)
    model.train_on_batch(X, Y)


def said_by(model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.predict(X, verbose=0)
        model(X)
        model.evaluate(X, Y, verbose=0)
    return [str(one.message) for one in caught if "cut off" in str(one.message)]


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_what_a_step_cuts_off_is_said_once_with_the_layer(jit):
    model = frozen_model(0.1)
    step(model, jit)
    said = said_by(model)
    assert any("'only_input_0'" in one or "/only_input_0'" in one for one in said)
    assert len(said) == len(set(said))
    assert not said_by(model)


def test_ranges_that_fit_say_nothing():
    model = frozen_model()
    step(model)
    assert not said_by(model)


def test_ranges_that_move_catch_up_and_say_nothing():
    model = frozen_model(0.1)
    kopt.quantization.freeze_ranges(model, frozen=False)
    step(model)
    assert not said_by(model)


def test_learned_ranges_say_it_too():
    model = frozen_model(0.1, learned_ranges=True)
    step(model)
    assert said_by(model)


def test_calibration_forgets_what_was_cut_off():
    model = frozen_model(0.1)
    step(model)
    kopt.quantization.calibrate(model, X)
    assert not said_by(model)


def test_what_is_noted_is_no_weight(tmp_path):
    model = frozen_model(0.1)
    count = len(model.variables)
    step(model)
    assert len(model.variables) == count
    model.save(tmp_path / "m.keras")
    assert not said_by(keras.saving.load_model(tmp_path / "m.keras"))


def test_two_replicas_note_it():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = frozen_model(0.1)
        model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=32, verbose=0)
    assert any("input_0" in one for one in said_by(model))


def test_a_share_is_that_of_all_channels():
    values = tf.reshape(tf.range(64 * 64 * 8.0), (1, 64, 64, 8))
    some = _some_of(values).numpy()
    assert 200 <= some.size <= 300
    assert set((some % 8).astype(int)) == set(range(8))
