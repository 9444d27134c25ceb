"""The parts of `keras.layers.MultiHeadAttention`.

It puts its masks together in `_compute_attention_mask`, holds its dropout as
`_dropout_layer`, and saves the regularizers of its projections from attributes of its
own (`_kernel_regularizer`, `_bias_regularizer`); none can be reached in public.
"""

from __future__ import annotations

from typing import Any

import keras


def attention_mask(layer: Any, query: Any, value: Any, masks: Any) -> Any:
    """All masks of an attention's call as one, `(batch, queries, keys)`, or None."""
    return layer._compute_attention_mask(query, value, **masks)


def attention_dropout(layer: Any) -> keras.Layer:
    """The layer that drops probabilities in an attention."""
    return layer._dropout_layer


def saved_regularizer_of(layer: Any, weight: str, regularizer: Any) -> None:
    """Have an attention's configuration name a regularizer for all its projections.

    Args:
        layer: A `MultiHeadAttention` or a `GroupQueryAttention`.
        weight: `"kernel"` or `"bias"`.
        regularizer: What all kernels, or biases, have; or `None`.
    """
    hidden = isinstance(layer, keras.layers.MultiHeadAttention)
    setattr(layer, f"{'_' if hidden else ''}{weight}_regularizer", regularizer)
