"""LockedDropout, EmbeddingDropout and WeightDrop: the noise of AWD-LSTM."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.layers import EmbeddingDropout, LockedDropout, WeightDrop

layers = keras.layers


def test_locked_dropout_drops_the_same_features_at_all_steps_of_a_sequence():
    outputs = np.array(LockedDropout(0.5, seed=1)(np.ones((64, 7, 5)), training=True))
    assert (outputs == outputs[:, :1]).all()
    # Each sequence has a mask of its own.
    assert len({row.tobytes() for row in outputs[:, 0]}) > 20


def test_locked_dropout_drops_at_the_rate():
    outputs = np.array(
        LockedDropout(0.3, seed=1)(np.ones((10_000, 2, 10)), training=True)
    )
    assert (outputs == 0).mean() == pytest.approx(0.3, abs=5 * (0.21 / 1e5) ** 0.5)
    assert outputs.mean() == pytest.approx(1.0, abs=5 * (0.3 / 0.7 / 1e5) ** 0.5)


def test_locked_dropout_refuses_what_has_no_steps():
    with pytest.raises(ValueError, match=r"take kopt\.layers\.Dropout"):
        LockedDropout()(np.ones((2, 3)))


@pytest.mark.parametrize("mode", ["batch", "row"])
def test_embedding_dropout_drops_a_word_wherever_it_occurs(mode):
    words = layers.Embedding(50, 4, embeddings_initializer="ones")
    layer = EmbeddingDropout(words, 0.5, mode, seed=1)
    inputs = np.random.default_rng(0).integers(0, 50, (32, 40))
    outputs = np.array(layer(inputs, training=True))
    assert set(outputs.ravel()) == {0.0, 2.0}
    assert (outputs == outputs[..., :1]).all()
    for sequence, kept in zip(inputs, outputs[..., 0], strict=True):
        for word in set(sequence):
            assert len(set(kept[sequence == word])) == 1
    fates = {
        word: {value for value in outputs[..., 0][inputs == word]} for word in range(50)
    }
    assert any(len(found) == 2 for found in fates.values()) == (mode == "row")


@pytest.mark.parametrize("mode", ["batch", "row"])
def test_embedding_dropout_drops_at_the_rate(mode):
    words = layers.Embedding(1000, 1, embeddings_initializer="ones")
    layer = EmbeddingDropout(words, 0.3, mode, seed=1)
    inputs = np.tile(np.arange(1000), (100, 1))
    draws = 1 if mode == "row" else 100
    inputs = inputs if mode == "row" else inputs[:1]
    outputs = np.concatenate([layer(inputs, training=True) for _ in range(draws)])
    assert (outputs == 0).mean() == pytest.approx(0.3, abs=5 * (0.21 / 1e5) ** 0.5)


def test_embedding_dropout_passes_the_mask_on_and_keeps_large_words_apart():
    words = layers.Embedding(5000, 2, mask_zero=True, dtype="mixed_float16")
    layer = EmbeddingDropout(words, 0.0)
    inputs = np.array([[4097, 4098, 0]])
    outputs = layer(inputs, training=True)
    np.testing.assert_array_equal(outputs, words(inputs))
    assert layer.compute_mask(inputs).numpy().tolist() == [[True, True, False]]


def test_embedding_dropout_takes_embeddings_only():
    with pytest.raises(TypeError, match=r"must be a keras.layers.Embedding"):
        EmbeddingDropout(layers.Dense(2))


RECURRENT = {
    "SimpleRNN": lambda: layers.SimpleRNN(3),
    "GRU": lambda: layers.GRU(3),
    "GRU, the other form": lambda: layers.GRU(3, reset_after=False),
    "LSTM": lambda: layers.LSTM(3, return_sequences=True),
    "LSTM, unrolled": lambda: layers.LSTM(3, unroll=True),
    "cells": lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
    "Bidirectional": lambda: layers.Bidirectional(layers.GRU(3)),
}
SEQUENCES = np.random.default_rng(0).normal(size=(4, 5, 2)).astype("float32")


def recurrent_kernels(layer):
    return [w for w in layer.weights if w.name == "recurrent_kernel"]


@pytest.mark.parametrize("name", RECURRENT)
def test_weight_drop_computes_with_dropped_weights_from_state_to_state(name):
    inner = RECURRENT[name]()
    layer = WeightDrop(inner, rate=1.0)
    layer(SEQUENCES)
    kernels = recurrent_kernels(inner)
    assert kernels
    without = np.array(layer(SEQUENCES, training=True))
    assert not np.allclose(without, layer(SEQUENCES))
    for kernel in kernels:
        kernel.assign(np.zeros(kernel.shape))
    np.testing.assert_allclose(without, inner(SEQUENCES), rtol=1e-5, atol=1e-6)


def test_weight_drop_uses_one_mask_for_all_steps_and_samples():
    # Without inputs and biases, and of identity kernels, a state stays or is lost.
    inner = layers.SimpleRNN(
        64,
        activation="linear",
        use_bias=False,
        kernel_initializer="zeros",
        recurrent_initializer="identity",
        return_sequences=True,
    )
    layer = WeightDrop(inner, rate=0.5, seed=1)
    start = np.ones((3, 64), "float32")
    outputs = np.array(
        layer(np.zeros((3, 4, 2), "float32"), training=True, initial_state=start)
    )
    kept = outputs[0, 0] != 0
    assert 10 < kept.sum() < 54
    for step in range(4):
        expected = np.where(kept, 2.0 ** (step + 1), 0)
        np.testing.assert_allclose(outputs[:, step], np.tile(expected, (3, 1)))


def test_weight_drop_gives_gradients_to_the_weights_that_were_kept():
    inner = layers.SimpleRNN(32)
    layer = WeightDrop(inner, rate=0.5, seed=1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(SEQUENCES, training=True))
    (kernel,) = recurrent_kernels(inner)
    share = (tape.gradient(loss, kernel.value).numpy() == 0).mean()
    assert share == pytest.approx(0.5, abs=5 * 0.5 / 32)


def test_weight_drop_hears_of_padded_steps():
    layer = WeightDrop(layers.LSTM(3), rate=0.0)
    mask = np.array([[True, True, False, False, False]] * 4)
    outputs = layer(SEQUENCES, mask=mask, training=True)
    np.testing.assert_allclose(
        outputs, layer(SEQUENCES[:, :2], training=True), rtol=1e-5
    )


def test_weight_drop_takes_other_weights_by_name():
    inner = layers.GRU(3, use_bias=False)
    layer = WeightDrop(inner, 1.0, ("kernel", "recurrent_kernel"))
    outputs = layer(SEQUENCES, training=True)
    np.testing.assert_array_equal(outputs, 0)


def test_weight_drop_refuses_what_has_no_such_weights():
    with pytest.raises(ValueError, match="must have weights named 'recurrent_kernel'"):
        WeightDrop(layers.Dense(2))(np.ones((2, 3)))
    with pytest.raises(TypeError, match="must be a Keras layer"):
        WeightDrop("lstm")
