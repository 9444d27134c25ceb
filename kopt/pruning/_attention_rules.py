"""How channels and heads go through attention."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np

from kopt._keras.graphs import GraphCall
from kopt.pruning._flow import Channels, End, Flow, varying
from kopt.pruning._heads import head_axes, head_count, projections

Rules = Any


def attention(
    flow: Flow, call: GraphCall, given: list[Channels]
) -> list[Channels] | None:
    layer, inner = call.operation, projections(call.operation)
    kernel = inner["attention_output"].kernel
    if len(kernel.shape) != 3 or len(inner["query"].kernel.shape) != 3:
        return None
    channels = dict(zip(map(id, call.inputs), given, strict=True))
    positional, named = call.arguments({id(tensor): tensor for tensor in call.inputs})
    bound = inspect.signature(layer.call).bind(*positional, **named).arguments
    sources = {name: bound.get(name) for name in ("query", "value", "key")}
    sources["key"] = sources["value"] if sources["key"] is None else sources["key"]
    sources["gate"] = sources["query"]
    taken = {id(source) for source in sources.values()}
    if not all(len(channels[key].slots) for key in taken):
        return None
    for name, source in sources.items():
        if name in inner:
            _projected(flow, layer, inner[name].kernel, channels[id(source)])
    others = [c for key, c in channels.items() if key not in taken]
    for other in others:
        flow.slots.pin(other.slots, f"the positions of {layer.name!r}")
    heads = _heads(flow, layer, inner)
    if others or len(call.outputs) > 1:
        # Masks and scores may have an axis for the heads.
        flow.slots.pin(heads, f"masks or scores of each head of {layer.name!r}")
    outputs = _outputs(flow, layer, inner, channels[id(sources["query"])])
    reason = f"the positions of {layer.name!r}"
    return [outputs, *flow.unknown(call.outputs[1:], reason)]


def _projected(
    flow: Flow, layer: keras.Layer, kernel: keras.Variable, inputs: Channels
) -> None:
    flow.along(layer, kernel, 0, inputs.slots)
    used = (flow.read(kernel) != 0).any((1, 2))
    flow.ends.append(End(layer, inputs, used))


def _heads(flow: Flow, layer: Any, inner: dict[str, Any]) -> np.ndarray:
    """Follow the heads to where the output projection sums them."""
    heads = flow.made(layer, "heads", head_count(layer))
    for variable, axis, places in head_axes(layer):
        flow.along(layer, variable, axis, heads[places])
    value, output = inner["value"], inner["attention_output"]
    kernel = flow.read(output.kernel)
    # Queries of one group attend to the same values.
    kernel = kernel.reshape(len(heads), -1, *kernel.shape[1:])
    used = (kernel != 0).any((1, 2, 3))
    empty = (flow.read(value.kernel) == 0).all((0, 2))
    bias = np.zeros(value.kernel.shape[1:])
    if value.bias is not None:
        bias = flow.read(value.bias)
    # Whatever it attends to, such a head gives its bias: the scores sum to one.
    shares = np.einsum("hv,hqvo->ho", bias, kernel)
    is_zero = (bias == 0).all(1)
    is_constant = is_zero if "gate" in inner else is_zero | (output.bias is not None)
    values = np.where(empty & is_constant, np.where(is_zero, 0.0, 1.0), np.nan)
    flow.ends.append(End(layer, Channels(heads, values), used, shares, output.bias))
    return heads


def _outputs(
    flow: Flow, layer: Any, inner: dict[str, Any], query: Channels
) -> Channels:
    output, heads = inner["attention_output"], flow.use(layer).vectors["heads"]
    slots = flow.made(layer, "outputs", output.kernel.shape[-1])
    flow.along(layer, output.kernel, 2, slots, is_own=True, is_scored=True)
    flow.along(layer, output.bias, 0, slots, is_own=True)
    if isinstance(layer, keras.layers.GroupQueryAttention):
        # It always gives back as many channels as it was queried with.
        flow.slots.join(slots, query.slots)
        per_head = layer.num_query_heads // layer.num_key_value_heads
        flow.use(layer).resized = lambda count: {
            "num_query_heads": count(heads) * per_head,
            "num_key_value_heads": count(heads),
        }
    else:
        flow.use(layer).resized = lambda count: {
            "num_heads": count(heads),
            "output_shape": (count(slots),),
        }
    dead = (flow.read(output.kernel) == 0).all((0, 1))
    offset = 0.0 if output.bias is None else flow.read(output.bias)
    values = np.where(dead, offset, varying(slots).values)
    return Channels(slots, values)


RULES: Rules = {
    keras.layers.MultiHeadAttention: attention,
    keras.layers.GroupQueryAttention: attention,
}
