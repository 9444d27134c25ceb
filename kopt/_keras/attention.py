"""The parts of Keras's attention layers.

`MultiHeadAttention` and `GroupQueryAttention` put their masks together in
`_compute_attention_mask` and hold their dropout as `_dropout_layer`; the former saves
the regularizers of its projections from attributes of its own (`_kernel_regularizer`,
`_bias_regularizer`), the latter has its projections in private. None can be reached in
public. A subclass may replace a step of the computation and keep `call`.
"""

from __future__ import annotations

from typing import Any

import keras

_DOT_STEPS = ("_calculate_scores", "_apply_scores", "_calculate_score_mask")
_STEPS: dict[type, tuple[str, ...]] = {
    keras.layers.MultiHeadAttention: (
        "_compute_attention",
        "_compute_attention_mask",
        "_masked_softmax",
    ),
    keras.layers.GroupQueryAttention: (
        "_compute_attention",
        "_compute_attention_mask",
        "_masked_softmax",
    ),
    keras.layers.AdditiveAttention: _DOT_STEPS,
    keras.layers.Attention: _DOT_STEPS,
}


def replaces_a_step(kind: type) -> str:
    """The first step of Keras's that a subclass replaced, by name; "" if none."""
    base = next(one for one in kind.__mro__ if one in _STEPS)
    return next(
        (
            name
            for name in _STEPS[base]
            if getattr(kind, name, None) is not getattr(base, name, None)
        ),
        "",
    )


def projection(kind: type, part: str) -> str:
    """The attribute of a projection: of "query", "key", "value" or "output"."""
    return f"{part}_dense" if hasattr(kind, f"{part}_dense") else f"_{part}_dense"


def merged_mask(layer: Any, query: Any, value: Any, **masks: Any) -> Any:
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
