"""The private names of Keras that pruning needs, all in one place.

Keras has no public way to list the layers inside layers, to know which optimizer is
calling a constraint, to reach the moving average of a variable, to save state that is
not a layer's, or to read a functional model's graph and the operations in it. Each
name has a canary in `tests/pruning/test_keras.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
from keras.src.backend.common import global_state
from keras.src.models.functional import Functional
from keras.src.ops.numpy import Concatenate as ConcatenateOperation
from keras.src.ops.numpy import Multiply as MultiplyOperation
from keras.src.saving.keras_saveable import KerasSaveable as KerasSaveable

from kopt._weights import nested_layers as nested_layers

# What joins tensors end to end, and what gives zero where one factor is.
CONCATENATIONS = (keras.layers.Concatenate, ConcatenateOperation)
PRODUCTS = (keras.layers.Multiply, MultiplyOperation)


class Update(NamedTuple):
    """One call of an optimizer's `apply`.

    Args:
        call: An object that stands for the call. Wrapped optimizers share the one of
            the outermost.
        optimizer: The innermost optimizer, the one that moves the variables.
        around: The optimizers that stand around it, the outermost first.
    """

    call: Any
    optimizer: keras.optimizers.Optimizer
    around: tuple[keras.optimizers.Optimizer, ...] = ()


def running_update() -> Update | None:
    """The optimizer call that we are inside of, if any."""
    # `apply` opens a name scope with itself as the caller.
    scopes = global_state.get_global_attribute("name_scope_stack") or []
    calls = [s for s in scopes if isinstance(s.caller, keras.optimizers.Optimizer)]
    if not calls:
        return None
    *around, innermost = [scope.caller for scope in calls]
    return Update(calls[0], innermost, tuple(around))


def moves_variables(optimizer: keras.optimizers.Optimizer) -> Any:
    """Whether this call updates variables: not so while gradients are gathered.

    Returns:
        `True`, or a boolean tensor where the optimizer accumulates gradients.
    """
    steps = optimizer.gradient_accumulation_steps
    if not steps:
        return True
    # `iterations` counts updates; only the private counter knows the batches between.
    return keras.ops.equal((optimizer._iterations + 1) % steps, 0)


def evaluated(update: Update, variable: keras.Variable) -> list[keras.Variable]:
    """What a variable is evaluated at in place of its own values.

    That is the average that `use_ema` keeps, and what kopt's wrappers
    (`WeightAverage`, `Lookahead`, `ScheduleFree` ...) keep for it.
    """
    kept = [
        optimizer.state(variable)[optimizer.evaluates_at]
        for optimizer in update.around
        if getattr(optimizer, "evaluates_at", None) is not None
    ]
    if update.optimizer.use_ema:
        index = update.optimizer._get_variable_index(variable)
        kept.append(update.optimizer._model_variables_moving_average[index])
    return kept


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


def has_graph(model: Any) -> bool:
    """Whether a model does what the graph of its layers says, and nothing else."""
    if isinstance(model, keras.Sequential):
        graph, plain = model._functional, keras.Sequential
    else:
        graph, plain = model, Functional
    return isinstance(graph, Functional) and type(model).call is plain.call


def graph_calls(model: keras.Model) -> list[GraphCall]:
    """The calls of a model's graph, producers before consumers."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    by_depth = graph._nodes_by_depth
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
