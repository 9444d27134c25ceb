"""Multi-head and grouped-query attention, step by step on grids.

The converter makes an invalid file of an attention of which only the projections are
quantized: queries, scores, probabilities and what they select need ranges as well.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from kopt._keras.attention import (
    attention_dropout,
    merged_mask,
    projection,
    replaces_a_step,
)
from kopt._kernels.axes import channels_from_end
from kopt.quantization import _integer_forms, _masks
from kopt.quantization.rule import Axes, float_class_of

#: The range that the runtime prescribes for what a softmax puts out.
PROBABILITIES = (0.0, 255 / 256)

_RANGES: dict[str, tuple[float, float] | None] = {
    "query": None,
    "key": None,
    "value": None,
    "scores": None,
    "probabilities": PROBABILITIES,
    "context": None,
}


def weights(kind: type) -> dict[str, Axes]:
    """The kernels of a class of attentions, with the axes of their channels."""
    return {
        f"{projection(kind, part)}.kernel": channels_from_end(
            kind, f"{part}_dense.kernel"
        )
        for part in ("query", "key", "value", "output")
    }


def inner(layer: Any, inputs: int) -> dict[str, tuple[float, float] | None]:
    """The ranges inside of an attention."""
    return _RANGES


def obstacle(layer: Any, inputs: int) -> str:
    """Why an attention cannot be computed here, or nothing."""
    if step := replaces_a_step(float_class_of(layer)):
        return f"its class has a {step} of its own"
    if layer.get_config().get("use_gate"):
        return "its attention has a gate"
    if (
        len(getattr(layer, "attention_axes", None) or (1,)) > 1
        or len(_dense(layer, "output").kernel.shape) < 3
    ):
        return "its attention goes over more than one axis"
    return ""


def attention(
    layer: Any,
    query: Any,
    value: Any,
    key: Any = None,
    query_mask: Any = None,
    value_mask: Any = None,
    key_mask: Any = None,
    attention_mask: Any = None,
    return_attention_scores: bool = False,
    training: bool | None = None,
    use_causal_mask: bool = False,
) -> Any:
    """What the layer's own `call` computes, one operation after the other."""
    rounded = layer.quantizer.rounded
    key = value if key is None else key
    mask = merged_mask(
        layer,
        query,
        value,
        query_mask=query_mask,
        value_mask=value_mask,
        key_mask=key_mask,
        attention_mask=attention_mask,
        use_causal_mask=use_causal_mask,
    )
    scale = _dense(layer, "query").kernel.shape[-1] ** -0.5
    queries = _heads(layer, "query", query, scale)
    keys = _heads(layer, "key", key)
    values = _heads(layer, "value", value)
    scores = _by_group(queries, ops.transpose(keys, (0, 1, 3, 2)))
    probabilities = _probabilities(layer, scores, mask, return_attention_scores)
    kept = attention_dropout(layer)(probabilities, training=bool(training))
    context = rounded("context", _by_group(kept, values))
    output = _dense(layer, "output")
    result = _integer_forms.matrix_product(
        ops.transpose(context, (0, 2, 1, 3)),
        output.kernel,
        len(output.kernel.shape) - 2,
        output.bias,
    )
    return (result, probabilities) if return_attention_scores else result


def cached_attention(
    layer: Any,
    query: Any,
    value: Any,
    key: Any = None,
    attention_mask: Any = None,
    cache: Any = None,
    cache_update_index: Any = None,
    return_attention_scores: bool = False,
    training: bool | None = None,
) -> Any:
    """An attention with a cache for generation, in float where it is used."""
    if cache is None and cache_update_index is None:
        return attention(
            layer,
            query,
            value,
            key,
            attention_mask=attention_mask,
            return_attention_scores=return_attention_scores,
            training=training,
        )
    return layer.float_class.call(
        layer,
        query,
        value,
        key,
        attention_mask,
        cache,
        cache_update_index,
        return_attention_scores,
        training,
    )


def _dense(layer: Any, part: str) -> Any:
    return getattr(layer, projection(type(layer), part))


def _heads(layer: Any, name: str, inputs: Any, scale: float = 1.0) -> Any:
    """A projection, `(batch, heads, positions, size)`."""
    dense = _dense(layer, name)
    kernel, bias = dense.kernel, dense.bias
    if scale != 1.0:
        kernel, bias = kernel * scale, None if bias is None else bias * scale
    projected = _integer_forms.matrix_product(inputs, kernel, 2, bias)
    return ops.transpose(layer.quantizer.rounded(name, projected), (0, 2, 1, 3))


def _by_group(of_queries: Any, of_group: Any) -> Any:
    """The product of each head of queries with the keys or values of its group.

    The queries of a group stand below each other, so that what they share need not be
    repeated.
    """
    heads, groups = of_queries.shape[1], of_group.shape[1]
    if heads == groups:
        return ops.matmul(of_queries, of_group)
    places, size = ops.shape(of_queries)[2:]
    together = (-1, groups, heads // groups * places, size)
    result = ops.matmul(ops.reshape(of_queries, together), of_group)
    return ops.reshape(result, (-1, heads, places, ops.shape(result)[-1]))


def _probabilities(layer: Any, scores: Any, mask: Any, returned: bool) -> Any:
    rounded = layer.quantizer.rounded
    if mask is None:
        scores = rounded("scores", scores)
        return rounded("probabilities", ops.softmax(scores, axis=-1))
    keep = ops.expand_dims(_masks.is_kept(mask), -3)
    scores = _masks.masked_scores(layer, scores, keep)
    probabilities = ops.softmax(scores, axis=-1)
    if returned or attention_dropout(layer).rate:
        # Keras's softmax layer gives a row that is masked as a whole no weights; the
        # fused operation, which it uses otherwise, gives it equal ones.
        return _masks.without_masked(layer, probabilities, keep, "probabilities")
    return rounded("probabilities", probabilities)
