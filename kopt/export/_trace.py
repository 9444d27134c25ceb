"""A Keras model, written as a SavedModel for one batch size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt._keras.graphs import GraphCall, graph_calls, keeps_graph
from kopt._keras.layer_tree import own_layers, with_nested_layers
from kopt._signature import Signature
from kopt.export._state import Updates
from kopt.export._words import check_operations

_HALF = ("float16", "bfloat16")

# TensorFlow writes a graph as one message of at most 2 GB.
_LARGEST_GRAPH = 1_500_000_000


@dataclass(frozen=True)
class Graph:
    """What was traced.

    Attributes:
        operations: The kinds of its operations.
        outputs: The type of each output.
        state: The variables that a call changes, and others that are read with them.
    """

    operations: frozenset[str]
    outputs: dict[str, str]
    state: tuple[tf.Variable, ...] = ()


def write_saved_model(signature: Signature, folder: Path) -> Graph:
    """Write what the model computes at inference, for batches of the signature's size.

    The SavedModel has two endpoints on one graph: `serving_default` takes and returns
    named tensors, `serve` has the structure of the model's own call.
    """
    archive = keras.export.ExportArchive()
    archive.track(signature.model)
    structure: list[Any] = []

    def by_name(*tensors: Any) -> dict[str, Any]:
        outputs = signature.raw_call(tensors)
        structure[:] = [outputs]
        return signature.named(outputs)

    named = archive.add_endpoint("serving_default", by_name, signature.specs)
    graph = _described(named.get_concrete_function())
    order = list(signature.named(structure[0]))
    # What a SavedModel can return: a tensor, or a flat list or dict of tensors.
    flat = all(len(path) < 2 for path, _ in keras.tree.flatten_with_path(structure[0]))

    def serve(*arguments: Any) -> Any:
        outputs = named(*keras.tree.flatten(arguments))
        ordered = [outputs[name] for name in order]
        return keras.tree.pack_sequence_as(structure[0], ordered) if flat else outputs

    arguments, by_keyword = signature.pack(signature.specs)
    archive.add_endpoint("serve", serve, [*arguments, *by_keyword.values()])
    archive.write_out(str(folder), verbose=False)
    return graph


def write_for_converter(
    signature: Signature, folder: Path, trained_ranges: bool = False
) -> Graph:
    """Write a SavedModel whose weights are constants, which only a converter reads.

    Saving and restoring hundreds of variables is most of the time that a conversion
    takes, so that they are left out where they fit into one graph.

    Args:
        signature: Names and shapes of what goes in and comes out.
        folder: Where to.
        trained_ranges: Whether the converter rounds to ranges in the graph.
    """
    variables = signature.model.variables
    arrays = [keras.ops.convert_to_numpy(variable.value) for variable in variables]
    if trained_ranges:
        arrays = [
            _with_unequal_neighbours(variable.name, array)
            for variable, array in zip(variables, arrays, strict=True)
        ]
    if sum(array.nbytes for array in arrays) > _LARGEST_GRAPH:
        return write_saved_model(signature, folder)

    state: dict[int, keras.Variable] = {}

    def by_name(*tensors: Any) -> dict[str, Any]:
        constants = [
            (variable, tf.constant(array))
            for variable, array in zip(variables, arrays, strict=True)
            if id(variable) not in state
        ]
        with Updates(constants) as scope:
            outputs = signature.call(tensors)
        state.update(scope.variables)
        for variable in scope.variables.values():
            variable.assign(scope.get_current_value(variable))
        return outputs

    def traced() -> Any:
        function = tf.function(by_name, autograph=False)
        return function.get_concrete_function(*signature.specs)

    concrete = traced()
    if state:
        # The first time, what the model remembers was a constant where it is read.
        concrete = traced()
    graph = _described(concrete)
    check_operations(signature.model, graph.operations)
    module = tf.Module()
    # Whatever reads a weight past Keras finds the variable itself.
    module.variables_in_use = list(concrete.variables)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": concrete})
    return graph


def _with_unequal_neighbours(name: str, array: np.ndarray) -> np.ndarray:
    """The same weights; of equal ones in a row every second is a millionth off.

    The converter stores a bias of one number with the integer of its first channel for
    all channels, whatever their scales. What an operation adds may be a slice of a
    weight: the gates of a recurrent layer share theirs.
    """
    is_added = name in ("bias", "beta")
    is_vector = array.ndim == 1 or is_added
    is_constant = array.size > 0 and bool((array == array.flat[0]).all())
    if array.dtype != "float32" or not (is_vector or is_constant):
        return array
    flat = array.flatten()
    places = np.arange(flat.size)
    starts = np.append(True, flat[1:] != flat[:-1])[: flat.size]
    within = places - np.maximum.accumulate(np.where(starts, places, 0))
    # Ones that multiply fall away where the converter sees that they are ones.
    is_neutral = (flat == 0.0) | ((flat == 1.0) & (not is_added))
    changed = (within % 2 == 1) & ~is_neutral
    return np.where(changed, flat * (1.0 - 1e-6), flat).reshape(array.shape)


def _described(function: Any) -> Graph:
    graph, outputs = function.graph.as_graph_def(), function.structured_outputs
    bodies = [graph.node, *(inner.node_def for inner in graph.library.function)]
    operations = frozenset(node.op for body in bodies for node in body)
    assigns = any(name.startswith("Assign") for name in operations)
    state = tuple(function.variables) if assigns else ()
    return Graph(operations, {name: y.dtype.name for name, y in outputs.items()}, state)


@contextlib.contextmanager
def float32_compute(model: keras.Model) -> Iterator[None]:
    """Within the block, layers under a mixed policy compute in float32.

    TFLite's kernels do not compute in float16 or bfloat16. The weights of a mixed
    policy are float32 in any case.
    """
    changed = []
    for layer in with_nested_layers(model):
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
        for layer in with_nested_layers(model)
        if isinstance(layer, keras.layers.RNN) and not layer.unroll
    ]
    for layer in loops:
        layer.unroll = True
    try:
        yield
    finally:
        for layer in loops:
            layer.unroll = False


@contextlib.contextmanager
def reversed_by_slices() -> Iterator[None]:
    """Within the block, `tf.reverse` takes a slice backwards, which is the same.

    The converter gives what comes out of a REVERSE_V2 a scale of its own, but the
    runtime copies the integers: the second half of a `Bidirectional` would be wrong.
    """
    reverse = tf.reverse

    def sliced(tensor: Any, axis: Any, name: str | None = None) -> Any:
        axes, rank = tf.get_static_value(axis), tf.convert_to_tensor(tensor).shape.rank
        if axes is None or rank is None:
            return reverse(tensor, axis, name)
        backwards = {int(one) % rank for one in axes}
        steps = [-1 if one in backwards else None for one in range(rank)]
        return tensor[tuple(slice(None, None, step) for step in steps)]

    tf.reverse = sliced
    try:
        yield
    finally:
        tf.reverse = reverse


def half_variables(model: keras.Model) -> list[str]:
    """Paths of the weights that are stored in 16 bits."""
    return [v.path for v in model.variables if v.dtype in _HALF]


def layers_in_order(
    model: keras.Layer,
) -> tuple[list[keras.Layer], dict[int, keras.Layer]]:
    """A model and the layers in it, at any depth, in the order of their first call.

    Returns:
        The layers, and by the `id` of a layer the one layer that takes in its output,
        where the model is a graph that says so and nothing else takes it.
    """
    order: list[keras.Layer] = [model]
    followers: dict[int, keras.Layer] = {}
    if keeps_graph(model):
        calls = graph_calls(model)
        operations = [call.operation for call in calls]
        followers = _sole_followers(calls, {id(one) for one in model.outputs})
    else:
        operations = own_layers(model)
    for operation in operations:
        if isinstance(operation, keras.Layer):
            inner, inner_followers = layers_in_order(operation)
            order += inner
            followers |= inner_followers
    return list({id(layer): layer for layer in order}.values()), followers


def _sole_followers(
    calls: list[GraphCall], outputs: set[int]
) -> dict[int, keras.Layer]:
    takers: dict[int, list[Any]] = {}
    for call in calls:
        for tensor in call.inputs:
            takers.setdefault(id(tensor), []).append(call.operation)
    followers: dict[int, keras.Layer] = {}
    shared: set[int] = set()
    for call in calls:
        for tensor in call.outputs:
            taking = takers.get(id(tensor), [])
            alone = len(taking) == 1 and id(tensor) not in outputs
            if not alone or id(call.operation) in followers:
                shared.add(id(call.operation))
            elif isinstance(taking[0], keras.Layer):
                followers[id(call.operation)] = taking[0]
    return {key: layer for key, layer in followers.items() if key not in shared}
