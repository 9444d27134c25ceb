"""The parts of `keras.layers.MultiHeadAttention`.

It puts its masks together in `_compute_attention_mask` and holds its dropout as
`_dropout_layer`; neither can be reached in public.
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
