"""Attention heads: which axes of which weights belong to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from kopt._keras.layer_tree import nested_layers

ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


class HeadAxis(NamedTuple):
    """An axis of a weight on which the heads lie.

    Args:
        variable: The weight.
        axis: The axis.
        heads: The head of each place.
    """

    variable: keras.Variable
    axis: int
    heads: np.ndarray


def head_count(layer: Any) -> int:
    """How many heads there are to prune: of grouped queries, how many groups."""
    if isinstance(layer, keras.layers.GroupQueryAttention):
        return layer.num_key_value_heads
    return layer.num_heads


def projections(layer: Any) -> dict[str, Any]:
    """The dense layers inside an attention layer, by name.

    They are `query`, `key`, `value` and `attention_output`, and `gate` if it has one.
    """
    return {inner.name: inner for inner in nested_layers(layer)}


def head_axes(layer: Any) -> Iterator[HeadAxis]:
    """The axes on which an attention layer's heads lie."""
    heads = np.arange(head_count(layer))
    queries = heads
    if isinstance(layer, keras.layers.GroupQueryAttention):
        queries = np.repeat(heads, layer.num_query_heads // len(heads))
    for name, dense in projections(layer).items():
        if name in ("query", "key", "value", "gate"):
            places = heads if name in ("key", "value") else queries
            yield HeadAxis(dense.kernel, 1, places)
            if dense.bias is not None:
                yield HeadAxis(dense.bias, 0, places)
        elif name == "attention_output":
            yield HeadAxis(dense.kernel, 0, queries)
