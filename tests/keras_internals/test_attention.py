"""Canaries: the parts of attention layers."""

import keras
import numpy as np
import pytest

from kopt._keras.attention import (
    _STEPS,
    attention_dropout,
    merged_mask,
    projection,
    replaces_a_step,
)

KINDS = {
    keras.layers.MultiHeadAttention: lambda **options: keras.layers.MultiHeadAttention(
        2, 2, **options
    ),
    keras.layers.GroupQueryAttention: lambda **options: (
        keras.layers.GroupQueryAttention(2, 2, 1, **options)
    ),
}


def attention(kind=keras.layers.MultiHeadAttention, **options):
    layer = KINDS[kind](**options)
    layer.build((None, 3, 2), (None, 3, 2))
    return layer


@pytest.mark.parametrize("kind", KINDS)
def test_the_masks_of_a_call_become_one(kind):
    x = np.ones((1, 3, 2), "float32")
    mask = merged_mask(
        attention(kind),
        x,
        x,
        query_mask=None,
        value_mask=np.array([[True, True, False]]),
        key_mask=None,
        attention_mask=None,
        use_causal_mask=True,
    )
    expected = np.tril(np.ones((3, 3), bool)) & [True, True, False]
    np.testing.assert_array_equal(np.broadcast_to(mask, (1, 3, 3))[0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_a_part_of_the_masks(kind):
    x = np.ones((1, 3, 2), "float32")
    mask = merged_mask(attention(kind, sliding_window=1), x, x)
    np.testing.assert_array_equal(np.broadcast_to(mask, (1, 3, 3))[0], np.eye(3) > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_dropout_of_an_attention_has_its_rate(kind):
    assert attention_dropout(attention(kind, dropout=0.25)).rate == 0.25


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["query", "key", "value", "output"])
def test_the_projections_of_an_attention_are_dense(kind, part):
    dense = getattr(attention(kind), projection(kind, part))
    assert isinstance(dense, keras.layers.EinsumDense)


@pytest.mark.parametrize("kind", _STEPS)
def test_the_steps_of_an_attention_are_methods_of_it(kind):
    assert all(callable(getattr(kind, name)) for name in _STEPS[kind])
    assert replaces_a_step(kind) == ""


def test_a_step_that_a_subclass_replaced_is_named():
    class Other(keras.layers.Attention):
        def _apply_scores(self, scores, value, scores_mask=None, training=False):
            return value, scores

    assert replaces_a_step(Other) == "_apply_scores"
