"""Tables of which rows are looked up, some of them used as a kernel too."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kopt._keras.masks import set_mask
from kopt.quantization import _integer_forms
from kopt.quantization._activations import of_function
from kopt.quantization.rule import Axes, FixedRange

_SQUASHED = of_function(keras.activations.tanh).fixed_range


def embedding(layer: Any, inputs: Any) -> Any:
    """Rows of a table that lies on one grid, which its rows keep."""
    indices = ops.cast(inputs, "int32")
    table = layer.quantizer.rounded("table", ops.convert_to_tensor(layer.embeddings))
    if layer.quantizer.snapped:
        # Without the selection that lets indices count from the end, which small
        # runtimes do not have.
        return tf.gather(table, indices)
    return ops.take(table, indices, axis=0)


def tied_channels(layer: Any) -> Axes | None:
    """The axis of a table that numbers logits, where it is the kernel of them."""
    return (0,) if layer.tie_weights else None


def reverse_channels(layer: Any) -> Axes | None:
    """The axis of a kernel of its own that numbers logits, where there is one."""
    return None if layer.tie_weights else (-1,)


def reversible_ranges(layer: Any, inputs: int) -> dict[str, FixedRange | None]:
    """The ranges of both directions."""
    capped: dict[str, FixedRange | None] = {"scaled": None, "squashed": _SQUASHED}
    return {
        "table": None,
        "hidden": None,
        **(capped if layer.logit_soft_cap is not None else {}),
        "logits": None,
    }


def reversible_embedding(layer: Any, inputs: Any, reverse: bool = False) -> Any:
    """Words to vectors, or vectors to a score for each word.

    The table has one grid where it is looked up, and one for each word where it is a
    kernel: a file has both forms of it.
    """
    if not reverse:
        vectors = embedding(layer, inputs)
        set_mask(vectors, keras.layers.Embedding.compute_mask(layer, inputs))
        return vectors
    rounded, cap = layer.quantizer.rounded, layer.logit_soft_cap
    tied = layer.tie_weights
    kernel = ops.transpose(layer.embeddings) if tied else layer.reverse_embeddings
    hidden = rounded("hidden", ops.cast(inputs, layer.compute_dtype))
    if cap is None:
        return rounded("logits", _integer_forms.matrix_product(hidden, kernel, 1))
    scaled = _integer_forms.matrix_product(hidden, kernel * (1.0 / cap), 1)
    squashed = rounded("squashed", ops.tanh(rounded("scaled", scaled)))
    return rounded("logits", squashed * cap)
