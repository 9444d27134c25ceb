"""`Attention` and `AdditiveAttention`, step by step on grids.

They have no projections: scores are products of queries and keys, or sums over the
hyperbolic tangent of what both add up to.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt._keras.attention import replaces_a_step
from kopt.quantization import _integer_forms, _masks
from kopt.quantization._activations import of_function
from kopt.quantization._attention import PROBABILITIES
from kopt.quantization.rule import FixedRange, float_class_of

_SQUASHED = of_function(keras.activations.tanh).fixed_range


def inner(layer: Any, inputs: int) -> dict[str, FixedRange | None]:
    """The ranges inside, the one of what comes out included."""
    within: dict[str, FixedRange | None] = {}
    if _adds(layer):
        within |= {"sum": None, "squashed": _SQUASHED}
    if _scales_first(layer):
        within["unscaled"] = None
    return {
        **within,
        "scores": None,
        "probabilities": PROBABILITIES,
        "context": None,
    }


def obstacle(layer: Any, inputs: int) -> str:
    """Why an attention cannot be computed here, or nothing."""
    step = replaces_a_step(float_class_of(layer))
    return f"its class has a {step} of its own" if step else ""


def attention(
    layer: Any,
    inputs: Any,
    mask: Any = None,
    training: bool = False,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Any:
    """What the layer's own `call` computes, one operation after the other."""
    query, value = inputs[:2]
    key = inputs[2] if len(inputs) > 2 else value
    query_mask, value_mask = mask[:2] if mask else (None, None)
    scores = _additive(layer, query, key) if _adds(layer) else _dot(layer, query, key)
    keep = _kept(scores, value_mask, use_causal_mask)
    if keep is None:
        scores = layer.quantizer.rounded("scores", scores)
    else:
        scores = _masks.masked_scores(layer, scores, keep)
    probabilities = layer.quantizer.rounded(
        "probabilities", ops.softmax(scores, axis=-1)
    )
    selecting = probabilities
    if training and layer.dropout > 0:
        selecting = keras.random.dropout(
            probabilities, layer.dropout, seed=layer.seed_generator
        )
    context = ops.matmul(selecting, value)
    if query_mask is None:
        context = layer.quantizer.rounded("context", context)
    else:
        is_there = ops.expand_dims(_masks.is_kept(query_mask), -1)
        context = _masks.without_masked(layer, context, is_there, "context")
    return (context, probabilities) if return_attention_scores else context


def _adds(layer: Any) -> bool:
    is_additive = isinstance(layer, keras.layers.AdditiveAttention)
    return is_additive or layer.score_mode == "concat"


def _scales_first(layer: Any) -> bool:
    """Whether there is a product with a number before the scores are made."""
    is_additive = isinstance(layer, keras.layers.AdditiveAttention)
    return layer.scale is not None and not is_additive


def _dot(layer: Any, query: Any, key: Any) -> Any:
    scores = ops.matmul(query, ops.swapaxes(key, -2, -1))
    if layer.scale is None:
        return scores
    return layer.quantizer.rounded("unscaled", scores) * layer.scale


def _additive(layer: Any, query: Any, key: Any) -> Any:
    rounded = layer.quantizer.rounded
    total = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
    if _scales_first(layer):
        total = rounded("unscaled", total) * layer.scale
    squashed = rounded("squashed", ops.tanh(rounded("sum", total)))
    # The weighted sum over the features is a product with a matrix of one column.
    column = _integer_forms.matrix_product(squashed, _column(layer, query.shape[-1]), 1)
    return ops.squeeze(column, -1)


def _column(layer: Any, size: int) -> Any:
    """What each feature counts for in the scores, `(size, 1)`."""
    if not isinstance(layer, keras.layers.AdditiveAttention):
        return ops.ones((size, 1)) * layer.concat_score_weight
    if layer.scale is None:
        return ops.ones((size, 1))
    return ops.reshape(layer.scale, (size, 1))


def _kept(scores: Any, value_mask: Any, use_causal_mask: bool) -> Any:
    """Which scores count, in a shape that fits them; None if all do."""
    keep = None
    if value_mask is not None:
        keep = ops.expand_dims(_masks.is_kept(value_mask), -2)
    if not use_causal_mask:
        return keep
    queries, keys = ops.shape(scores)[-2:]
    rows = ops.expand_dims(ops.arange(queries), -1)
    causal = ops.greater_equal(rows, ops.expand_dims(ops.arange(keys), 0))
    return causal if keep is None else ops.logical_and(keep, causal)
