"""A Keras model, written as a SavedModel for one batch size.

The only file of kopt.export that touches names that Keras keeps to itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kopt.export._signature import Signature

_HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class Graph:
    """What was traced: the kinds of its operations, the type of each output."""

    operations: frozenset[str]
    outputs: dict[str, str]


def write_saved_model(signature: Signature, folder: Path) -> Graph:
    """Write what the model computes at inference, for batches of the signature's size.

    The SavedModel has two endpoints on one graph: `serving_default` takes and returns
    named tensors, `serve` has the structure of the model's own call.
    """
    specs = list(signature.inputs.values())
    archive = keras.export.ExportArchive()
    archive.track(signature.model)
    structure: list[Any] = []

    def by_name(*tensors: Any) -> dict[str, Any]:
        outputs = signature.raw_call(tensors)
        structure[:] = [outputs]
        return signature.named(outputs)

    named = archive.add_endpoint("serving_default", by_name, specs)
    function = named.get_concrete_function()
    order = list(signature.named(structure[0]))
    # What a SavedModel can return: a tensor, or a flat list or dict of tensors.
    flat = all(len(path) < 2 for path, _ in keras.tree.flatten_with_path(structure[0]))

    def serve(*arguments: Any) -> Any:
        outputs = named(*keras.tree.flatten(arguments))
        ordered = [outputs[name] for name in order]
        return keras.tree.pack_sequence_as(structure[0], ordered) if flat else outputs

    arguments, by_keyword = signature.pack(specs)
    archive.add_endpoint("serve", serve, [*arguments, *by_keyword.values()])
    archive.write_out(str(folder), verbose=False)
    graph = function.graph.as_graph_def()
    bodies = [graph.node, *(inner.node_def for inner in graph.library.function)]
    operations = frozenset(node.op for body in bodies for node in body)
    outputs = function.structured_outputs
    return Graph(operations, {name: outputs[name].dtype.name for name in order})


@contextlib.contextmanager
def float32_compute(model: keras.Model) -> Iterator[None]:
    """Within the block, layers under a mixed policy compute in float32.

    TFLite's kernels do not compute in float16 or bfloat16. The weights of a mixed
    policy are float32 in any case.
    """
    changed = []
    for layer in all_layers(model):
        policy = layer.dtype_policy
        if getattr(policy, "compute_dtype", None) in _HALF:
            changed.append((layer, policy))
            layer.dtype_policy = keras.DTypePolicy("float32")
    try:
        yield
    finally:
        for layer, policy in changed:
            layer.dtype_policy = policy


@contextlib.contextmanager
def unrolled(model: keras.Model) -> Iterator[None]:
    """Within the block, recurrent layers are a row of steps instead of a loop.

    The converter quantizes no loops; it dies of them.
    """
    loops = [
        layer
        for layer in all_layers(model)
        if isinstance(layer, keras.layers.RNN) and not layer.unroll
    ]
    for layer in loops:
        layer.unroll = True
    try:
        yield
    finally:
        for layer in loops:
            layer.unroll = False


def half_variables(model: keras.Model) -> list[str]:
    """Paths of the weights that are stored in 16 bits."""
    return [v.path for v in model.variables if v.dtype in _HALF]


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """The model and every layer inside it, however deep."""
    # `model.layers` leaves out what layers hold: the cell of an RNN, the two sides of
    # a Bidirectional, the projections of an attention.
    return list(model._flatten_layers(include_self=True, recursive=True))
