"""Canaries: the parts of an attention layer."""

import keras
import numpy as np

from kopt._keras.attention import attention_dropout, attention_mask


def attention(**options):
    layer = keras.layers.MultiHeadAttention(1, 2, **options)
    layer.build((None, 3, 2), (None, 3, 2))
    return layer


def test_the_masks_of_a_call_become_one():
    x = np.ones((1, 3, 2), "float32")
    masks = {
        "query_mask": None,
        "value_mask": np.array([[True, True, False]]),
        "key_mask": None,
        "attention_mask": None,
        "use_causal_mask": True,
    }
    mask = np.broadcast_to(attention_mask(attention(), x, x, masks), (1, 3, 3))
    expected = np.tril(np.ones((3, 3), bool)) & [True, True, False]
    np.testing.assert_array_equal(mask[0], expected)


def test_the_dropout_of_an_attention_has_its_rate():
    assert attention_dropout(attention(dropout=0.25)).rate == 0.25
