import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.layers import Dropout


def dropped(layer, shape):
    return np.array(layer(np.ones(shape), training=True)) == 0


def test_draws_what_keras_draws_in_float32():
    values = np.random.default_rng(0).normal(size=(50, 60)).astype("float32")
    ours, theirs = Dropout(0.3, seed=5), keras.layers.Dropout(0.3, seed=5)
    for _ in range(3):
        np.testing.assert_array_equal(
            ours(values, training=True), theirs(values, training=True)
        )


def test_takes_the_place_of_keras_layer_by_its_configuration():
    config = keras.layers.Dropout(0.3, noise_shape=(None, 1), seed=5).get_config()
    layer = Dropout.from_config(config)
    assert (layer.rate, layer.noise_shape, layer.seed) == (0.3, (None, 1), 5)


def test_loads_weights_of_a_model_with_keras_layer(tmp_path):
    def model(dropout):
        return keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(3), dropout(0.5)]
        )

    theirs, ours = model(keras.layers.Dropout), model(Dropout)
    theirs.save_weights(tmp_path / "twin.weights.h5")
    ours.load_weights(tmp_path / "twin.weights.h5")
    np.testing.assert_array_equal(ours.get_weights()[0], theirs.get_weights()[0])
    ours.set_weights(theirs.get_weights())


@pytest.mark.parametrize(
    ("noise_shape", "shared"), [((None, 1, None), 1), ((8, None, 1), 2), ([1, 5, 6], 0)]
)
def test_noise_shape_shares_one_draw_along_axes_of_size_one(noise_shape, shared):
    mask = dropped(Dropout(0.5, noise_shape=noise_shape, seed=1), (8, 5, 6))
    assert (mask == mask.take([0], axis=shared)).all()
    for axis in {0, 1, 2} - {shared}:
        assert (mask != mask.take([0], axis=axis)).any()


def test_noise_shape_works_with_an_unknown_batch_size():
    layer = Dropout(0.5, noise_shape=(None, 1, None), seed=1)

    @tf.function(input_signature=[tf.TensorSpec((None, 5, 6))])
    def train(inputs):
        return layer(inputs, training=True)

    mask = train(np.ones((8, 5, 6), "float32")).numpy() == 0
    assert (mask == mask[:, :1]).all()
    assert (mask != mask[:1]).any()


@pytest.mark.parametrize("noise_shape", [(1,), (2, 3), (2, 2, 1)])
def test_noise_shape_that_does_not_fit_is_refused(noise_shape):
    layer = Dropout(0.5, noise_shape=noise_shape)
    with pytest.raises(ValueError, match="one entry for each axis of the inputs"):
        layer(np.ones((2, 2)), training=True)


@pytest.mark.parametrize(
    ("noise_shape", "error"),
    [("12", TypeError), (3, TypeError), ((0, 1), ValueError), ((1.5,), TypeError)],
)
def test_noise_shape_that_is_none_is_refused_at_once(noise_shape, error):
    with pytest.raises(error, match="noise_shape"):
        Dropout(0.5, noise_shape=noise_shape)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rate_outside_its_range_is_refused(rate):
    with pytest.raises(ValueError, match="`rate` must be a finite number"):
        Dropout(rate)
    with pytest.raises(ValueError, match="`rate` must be a finite number"):
        Dropout(0.5).rate = rate


def test_seed_that_is_no_integer_is_refused():
    with pytest.raises(TypeError, match="`seed` must be a whole number"):
        Dropout(0.5, seed=1.5)


def test_passes_a_mask_on():
    embedded = keras.layers.Embedding(5, 3, mask_zero=True)(np.array([[1, 0, 2]]))
    outputs = kopt.layers.Dropout(0.5)(embedded, training=True)
    np.testing.assert_array_equal(outputs._keras_mask, [[True, False, True]])


def test_no_two_layers_state_has_the_same_path():
    model = keras.Sequential([keras.Input((4,)), Dropout(0.1), Dropout(0.2)])
    paths = [variable.path for variable in model.variables]
    assert len(paths) == len(set(paths)) == 4
