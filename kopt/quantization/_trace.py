"""Which layers a model calls, and which tensors flow between them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from kopt._keras.attached_state import build_config
from kopt._keras.graphs import symbolic_inputs
from kopt._keras.layer_tree import nested_layers, own_layers
from kopt.quantization._common_grid import MOVES
from kopt.quantization._compiled import functions_inlined, is_compiled
from kopt.quantization._layer_quantizer import data_arguments, has_mask
from kopt.quantization._operations import OperationQuantizers, bare_operations
from kopt.quantization._quantized_layer import QuantizedLayer
from kopt.quantization._recurrent_cells import cells_of
from kopt.quantization.rule import float_class_of, rule_for


@dataclass(frozen=True)
class Call:
    """One call of one layer.

    Attributes:
        layer: The layer.
        inputs: Identity of each tensor among the arguments, with its position there.
        outputs: Identities of the tensors that came back.
    """

    layer: keras.Layer
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[int, ...]


@dataclass
class Trace:
    """The calls of one pass through a model at inference.

    Calls that handed their input on untouched, as dropout does at inference, are not
    among `calls`, for what follows them sees the same tensor.

    Attributes:
        calls: The calls of layers that compute something, in order.
        untouched: The layers that handed their input on.
        outputs: Identities of the tensors that the model returns.
        escaping: Identities of those, and of tensors that some operation outside of
            any layer takes in.
        masked: Identities of the layers that were called with a mask.
        padded: Identities of the operations that padded with something else than 0.
        by_hand: Names of the operations outside of any layer with a rule that no range
            makes integer, and why: they compute what the model returns, or take what it
            is given.
    """

    calls: list[Call] = field(default_factory=list)
    untouched: list[keras.Layer] = field(default_factory=list)
    outputs: set[int] = field(default_factory=set)
    escaping: set[int] = field(default_factory=set)
    masked: set[int] = field(default_factory=set)
    padded: set[int] = field(default_factory=set)
    by_hand: dict[str, str] = field(default_factory=dict)
    # Keeps the tensors alive: an identity must not be given twice.
    _tensors: list[Any] = field(default_factory=list)
    _calling: list[Any] = field(default_factory=list)
    _operations_in_layers: set[tuple[int, str]] = field(default_factory=set)

    def call(
        self, layer: keras.Layer, run: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """Call a layer and take note of it."""
        graph = tf.compat.v1.get_default_graph()
        before = len(graph.get_operations())
        self._calling.append(layer)
        try:
            results = run(layer, *args, **kwargs)
        finally:
            self._calling.pop()
        outputs = [leaf for leaf in keras.tree.flatten(results) if _is_float(leaf)]
        if not outputs:
            # Indices and conditions: nothing that could lie on a grid.
            return results
        self._operations_in_layers.update(
            (id(graph), operation.name) for operation in graph.get_operations()[before:]
        )
        self._note(layer, data_arguments(layer, args, kwargs), outputs)
        return results

    def note_call(self, layer: keras.Layer, args: Any, kwargs: Any) -> None:
        """Take note of what a layer's `call` got, also from Keras itself: a mask."""
        if has_mask(layer, args, kwargs):
            self.masked.add(id(layer))
        if float_class_of(layer).__name__ == "Pad" and any(
            [*args[1:], *kwargs.values()]
        ):
            self.padded.add(id(layer))

    def is_calling(self, layer: keras.Layer) -> bool:
        """Whether a call of the layer is going on."""
        return any(one is layer for one in self._calling)

    def _note(self, layer: keras.Layer, arguments: Any, outputs: list[Any]) -> None:
        leaves = enumerate(keras.tree.flatten(arguments))
        tensors = [(at, leaf) for at, leaf in leaves if _is_numeric_tensor(leaf)]
        self._tensors += [leaf for _, leaf in tensors] + outputs
        inputs = tuple((at, id(leaf)) for at, leaf in tensors)
        if {id(leaf) for leaf in outputs} <= {identity for _, identity in inputs}:
            self.untouched.append(layer)
            return
        self.calls.append(Call(layer, inputs, tuple(id(leaf) for leaf in outputs)))

    def finish(self, results: Any) -> None:
        """Take note of what the model returns."""
        outputs = [leaf for leaf in keras.tree.flatten(results) if tf.is_tensor(leaf)]
        self._tensors += outputs
        self.outputs = {id(leaf) for leaf in outputs}
        computed = [leaf for leaf in outputs if _is_float(leaf) and _is_of_graph(leaf)]
        given = _first_to_compute(tf.compat.v1.get_default_graph())
        returned = [
            operation
            for operation in map(_source, computed)
            if operation.type not in _COMPUTE_NOTHING
        ]
        for reason, operations in (
            ("{} takes the model's input, which has no range", given),
            ("no layer computes its result, but {}", returned),
        ):
            for operation in operations:
                if not self._is_in_layer(operation):
                    self.by_hand[operation.name] = reason.format(operation.name)
        self.escaping = self.outputs | {
            id(leaf)
            for leaf in self._tensors
            if _is_of_graph(leaf)
            for operation in leaf.consumers()
            if not self._is_in_layer(operation)
        }

    def _is_in_layer(self, operation: Any) -> bool:
        return (id(operation.graph), operation.name) in self._operations_in_layers


def leaf_layers(model: keras.Model) -> list[Any]:
    """The layers in which the work is done: those with a rule, else without parts.

    Operations that stand in a functional model without a layer come after them.
    """
    inside_of_leaves: set[int] = set()
    for layer in nested_layers(model):
        if _is_whole(layer):
            inside_of_leaves.update(map(id, _hidden_parts(layer)))
    layers = [
        layer
        for layer in nested_layers(model)
        if id(layer) not in inside_of_leaves
        and not isinstance(layer, OperationQuantizers)
        and (_is_whole(layer) or not own_layers(layer))
    ]
    return layers + bare_operations(model)


def holder(model: keras.Model, operation: str) -> keras.Layer:
    """The innermost layer with parts in whose `call` an operation was made.

    Args:
        model: The model of the trace.
        operation: The operation's name in the graph: scopes, named after the layers
            and perhaps numbered.
    """
    scopes = operation.split("/")[:-1]
    leaves = {id(one) for one in leaf_layers(model)}
    depths = {
        depth: one
        for one in nested_layers(model)
        for depth, scope in enumerate(scopes)
        if id(one) not in leaves
        and re.fullmatch(rf"{re.escape(one.name)}(_\d+)?", scope)
    }
    return depths[max(depths)] if depths else model


def _hidden_parts(layer: keras.Layer) -> list[keras.Layer]:
    """The parts of a leaf that are no leaves."""
    # The cells in the loop and the two directions are leaves too: they see to their own
    # ranges.
    has_leaves = isinstance(layer, keras.layers.Bidirectional) or (
        isinstance(layer, keras.layers.RNN)
        and all(rule_for(cell) is not None for cell in cells_of(layer))
    )
    if not has_leaves:
        return nested_layers(layer)
    quantizer = getattr(layer, "quantizer", None)
    return [] if quantizer is None else [quantizer, *nested_layers(quantizer)]


def _is_whole(layer: keras.Layer) -> bool:
    return (
        rule_for(layer) is not None
        or isinstance(layer, (QuantizedLayer, OperationQuantizers, keras.layers.RNN))
        or is_compiled(layer)
    )


def trace(model: keras.Model, batch: Any = None) -> Trace:
    """The calls that a model makes at inference, whatever way it was written.

    Args:
        model: A built model.
        batch: One batch of inputs, for a model that does not know their shape.
    """
    record = Trace()
    signature = _signature(model, batch)

    def run(inputs: Any) -> Any:
        outputs = model(inputs, training=False)
        record.finish(outputs)
        return outputs

    with _recording(leaf_layers(model), record), functions_inlined():
        tf.function(run, autograph=False).get_concrete_function(signature)
    return record


def _signature(model: keras.Model, batch: Any) -> Any:
    if batch is not None:
        return keras.tree.map_structure(tf.type_spec_from_value, batch)
    inputs = symbolic_inputs(model)
    if inputs is not None:
        return keras.tree.map_structure(
            lambda one: tf.TensorSpec(one.shape, one.dtype), inputs
        )
    shape = build_config(model).get("input_shape")
    if not _is_shape(shape):
        raise ValueError(
            f"The shape of the inputs of {model.name!r} is not known. Pass "
            "`calibration_data`, from which it can be read."
        )
    return tf.TensorSpec(shape, "float32")


def _is_float(value: Any) -> bool:
    return tf.is_tensor(value) and value.dtype.is_floating


# What a model returns without computing it.
_COMPUTE_NOTHING = ("Placeholder", "Const", "ReadVariableOp")
_HANDS_ON = ("StopGradient", "PreventGradient", "EnsureShape")


def _source(tensor: Any) -> Any:
    """The operation that computed a tensor, which may have been moved since."""
    operation = tensor.op
    while operation.type in MOVES or operation.type in _HANDS_ON:
        operation = next(one for one in operation.inputs if one.dtype.is_floating).op
    return operation


def _first_to_compute(graph: Any) -> list[Any]:
    """The operations that take numbers a model is given, as they are or moved."""
    found, seen = [], set()
    waiting = [
        operation.outputs[0]
        for operation in graph.get_operations()
        if operation.type == "Placeholder" and operation.outputs[0].dtype.is_floating
    ]
    while waiting:
        for operation in waiting.pop().consumers():
            numbers = [one for one in operation.outputs if one.dtype.is_floating]
            if operation.name in seen or not numbers:
                continue
            seen.add(operation.name)
            if operation.type in MOVES or operation.type in _HANDS_ON:
                waiting += numbers
            elif operation.type != "Identity":
                found.append(operation)
    return found


def _is_of_graph(tensor: Any) -> bool:
    """Whether a tensor is computed in the trace, and no constant or variable."""
    return isinstance(getattr(tensor, "graph", None), tf.Graph)


def _is_shape(shape: Any) -> bool:
    if not isinstance(shape, (list, tuple)):
        return False
    return all(size is None or isinstance(size, int) for size in shape)


def _is_numeric_tensor(value: Any) -> bool:
    # The state of a stateful recurrent layer comes as a variable, which no layer made.
    is_variable = isinstance(value, (keras.Variable, tf.Variable))
    return tf.is_tensor(value) and not is_variable and value.dtype != tf.bool


@contextmanager
def _recording(layers: list[keras.Layer], record: Trace) -> Iterator[None]:
    classes = [type(layer) for layer in layers]
    for layer in layers:
        # Also a quantized layer does what it did as a float one: the trace is the
        # same before and after.
        float_class: Any = float_class_of(layer)
        layer.__class__ = _recording_class(float_class)
        vars(layer)["_kopt_record"] = record
    try:
        yield
    finally:
        for layer, own_class in zip(layers, classes, strict=True):
            layer.__class__ = own_class
            del vars(layer)["_kopt_record"]


@functools.cache
def _recording_class(layer_class: Any) -> Any:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        record = vars(self)["_kopt_record"]
        return record.call(self, layer_class.__call__, args, kwargs)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        # `TimeDistributed` calls this past `__call__`.
        record = vars(self)["_kopt_record"]
        record.note_call(self, args, kwargs)
        if record.is_calling(self):
            return layer_class.call(self, *args, **kwargs)
        return record.call(self, layer_class.call, args, kwargs)

    body = {"__call__": __call__, "call": call, "float_class": layer_class}
    return type(layer_class)(layer_class.__name__, (layer_class,), body)
