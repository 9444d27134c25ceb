"""The graph of calls that a functional or sequential model is made of.

Keras has no public way to read it, to name the operations in it that are no layers, or
to tell a list of inputs from a dict of inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
from keras.src.models.functional import Functional
from keras.src.ops.numpy import Concatenate as ConcatenateOperation
from keras.src.ops.numpy import Multiply as MultiplyOperation

# What joins tensors end to end, and what gives zero where one factor is.
CONCATENATIONS = (keras.layers.Concatenate, ConcatenateOperation)
PRODUCTS = (keras.layers.Multiply, MultiplyOperation)


class GraphCall(NamedTuple):
    """One call in a functional model's graph.

    Args:
        operation: The layer, or the operation that is no layer, such as `ops.add`.
        inputs: The symbolic tensors among its arguments.
        outputs: The symbolic tensors that it returned.
        arguments: From other tensors by the `id` of the symbolic ones to the call's
            positional and keyword arguments.
    """

    operation: Any
    inputs: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    arguments: Callable[[Mapping[int, Any]], tuple[tuple[Any, ...], dict[str, Any]]]


def keeps_graph(model: Any) -> bool:
    """Whether a model was made as a graph of its layers, whatever its `call` does."""
    return isinstance(_graph_of(model), Functional)


def has_graph(model: Any) -> bool:
    """Whether a model does what the graph of its layers says, and nothing else."""
    plain = keras.Sequential if isinstance(model, keras.Sequential) else Functional
    return keeps_graph(model) and type(model).call is plain.call


def graph_calls(model: keras.Model) -> list[GraphCall]:
    """The calls of a model's graph, producers before consumers."""
    by_depth = _graph_of(model)._nodes_by_depth
    return [
        GraphCall(
            node.operation,
            list(node.input_tensors),
            list(node.outputs),
            node.arguments.fill_in,
        )
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if node.operation and not node.is_input
    ]


def symbolic_inputs(model: keras.Model) -> Any:
    """The symbolic inputs of a model, in the structure that it is called with.

    None for a model that has none, as one that was subclassed.
    """
    inputs = getattr(model, "_inputs_struct", None)
    if inputs is not None:
        return inputs
    inputs = getattr(model, "inputs", None) or None
    return inputs[0] if inputs and len(inputs) == 1 else inputs


def _graph_of(model: Any) -> Any:
    return model._functional if isinstance(model, keras.Sequential) else model
