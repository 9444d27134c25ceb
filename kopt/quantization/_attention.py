"""Multi-head attention, step by step on grids.

The converter makes an invalid file of an attention of which only the projections are
quantized: queries, scores, probabilities and what they select need ranges as well.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from kopt._keras.attention import attention_dropout, attention_mask
from kopt.quantization import _integer_forms, _masks

_RANGES: dict[str, tuple[float, float] | None] = {
    "query": None,
    "key": None,
    "value": None,
    "scores": None,
    "probabilities": (0.0, 255 / 256),
    "context": None,
}


def inner(layer: Any, inputs: int) -> dict[str, tuple[float, float] | None]:
    """The ranges inside of an attention."""
    return _RANGES


def obstacle(layer: Any, inputs: int) -> str:
    """Why an attention cannot be computed here, or nothing."""
    if layer.get_config().get("use_gate"):
        return "its attention has a gate"
    if (
        len(layer.attention_axes or (1,)) > 1
        or len(layer.output_dense.kernel.shape) < 3
    ):
        return "its attention goes over more than one axis"
    return ""


def multi_head_attention(
    layer: Any,
    query: Any,
    value: Any,
    key: Any = None,
    return_attention_scores: bool = False,
    training: bool | None = None,
    **masks: Any,
) -> Any:
    """What the layer's own `call` computes, one operation after the other."""
    rounded = layer.quantizer.rounded
    key = value if key is None else key
    mask = attention_mask(layer, query, value, masks)
    scale = layer.key_dim**-0.5
    queries = _heads(layer, "query", layer.query_dense, query, scale)
    keys = _heads(layer, "key", layer.key_dense, key)
    values = _heads(layer, "value", layer.value_dense, value)
    scores = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2)))
    probabilities = _probabilities(layer, scores, mask, return_attention_scores)
    kept = attention_dropout(layer)(probabilities, training=bool(training))
    context = rounded("context", ops.matmul(kept, values))
    output = layer.output_dense
    result = _integer_forms.matrix_product(
        ops.transpose(context, (0, 2, 1, 3)),
        output.kernel,
        len(output.kernel.shape) - 2,
        output.bias,
    )
    return (result, probabilities) if return_attention_scores else result


def _heads(layer: Any, name: str, dense: Any, inputs: Any, scale: float = 1.0) -> Any:
    """A projection, `(batch, heads, positions, size)`."""
    kernel, bias = dense.kernel, dense.bias
    if scale != 1.0:
        kernel, bias = kernel * scale, None if bias is None else bias * scale
    projected = _integer_forms.matrix_product(inputs, kernel, 2, bias)
    return ops.transpose(layer.quantizer.rounded(name, projected), (0, 2, 1, 3))


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
