"""How much arithmetic one prediction takes: matrix products and convolutions.

A multiplication and its addition count as two operations. Everything else (activations,
normalization, pooling) is left out: it is a small part of the work, and what it costs
depends on the runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from kopt.export import Interpreter

Shapes = Sequence[Sequence[int]]


class _Hidden(Exception):
    """What a loop does, or a size that is not fixed, cannot be counted."""


def of_graph(graph: tf.Graph) -> int | None:
    """Operations in a TensorFlow graph; None where loops or open sizes hide them."""
    definition = graph.as_graph_def(add_shapes=True)
    functions = {f.signature.name: f for f in definition.library.function}
    try:
        return _of_nodes(definition.node, {}, functions)
    except _Hidden:
        return None


def of_file(file: Interpreter) -> int | None:
    """Operations for one sample in a TFLite file; None where it has loops."""
    tensors, total = file.tensors, 0
    for operation in file.contents.operations:
        if operation.name in _LOOPS:
            return None
        if operation.name in _IN_TFLITE:
            inputs = [tensors[index].shape for index in operation.inputs]
            output = tensors[operation.outputs[0]].shape
            total += _IN_TFLITE[operation.name](inputs, output)
    return total // file.batch_size


def _of_nodes(
    nodes: Iterable[Any],
    arguments: dict[str, list[list[int]]],
    functions: dict[str, Any],
) -> int:
    """Operations of a graph, or of a function whose arguments have these shapes."""
    shapes = dict(arguments)
    shapes |= {node.name: _sizes(node.attr["_output_shapes"]) for node in nodes}
    total = 0
    for node in nodes:
        if node.op in _LOOPS:
            raise _Hidden
        if node.op in _CALLS:
            body = functions[node.attr["f"].func.name]
            names = [argument.name for argument in body.signature.input_arg]
            given = {
                name: _sizes(body.arg_attr[number].attr["_output_shapes"])
                for number, name in enumerate(names)
            }
            total += _of_nodes(body.node_def, given, functions)
        elif node.op in _IN_TENSORFLOW or node.op == "Einsum":
            inputs = [_input_shape(name, shapes) for name in node.input]
            output = shapes[node.name][0]
            if any(size < 0 for shape in (*inputs, output) for size in shape):
                raise _Hidden
            if node.op == "Einsum":
                total += _einsum(node.attr["equation"].s.decode(), inputs)
            else:
                total += _IN_TENSORFLOW[node.op](inputs, output)
    return total


def _sizes(attribute: Any) -> list[list[int]]:
    """Shapes as lists; an open size is -1, an unknown rank an open size."""
    return [
        [-1] if shape.unknown_rank else [dim.size for dim in shape.dim]
        for shape in attribute.list.shape
    ]


def _input_shape(name: str, shapes: dict[str, list[list[int]]]) -> list[int]:
    # "node", "node:1", or in a function "node:output:1".
    parts = name.split(":")
    return shapes[parts[0]][int(parts[-1]) if len(parts) > 1 else 0]


def _einsum(equation: str, inputs: Shapes) -> int:
    """Each combination of the positions along all axes is one product."""
    letters = equation.split("->")[0].split(",")
    if "." in equation:
        raise _Hidden
    sizes: dict[str, int] = {}
    for axes, shape in zip(letters, inputs, strict=True):
        sizes |= dict(zip(axes, shape, strict=True))
    return 2 * math.prod(sizes.values())


def _product(inputs: Shapes, output: Sequence[int]) -> int:
    # Transposed or not, the first factor has the rows of the output and what is summed.
    summed = math.prod(inputs[0][-2:]) // output[-2]
    return 2 * math.prod(output) * summed


_LOOPS = {"While", "StatelessWhile", "If", "StatelessIf", "WHILE", "IF", "CALL"}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}

# Filters: height, width, channels in (of a group), channels out.
_IN_TENSORFLOW: dict[str, Callable[[Shapes, Sequence[int]], int]] = {
    "Conv2D": lambda x, y: 2 * math.prod(y) * math.prod(x[1][:-1]),
    "Conv3D": lambda x, y: 2 * math.prod(y) * math.prod(x[1][:-1]),
    "DepthwiseConv2dNative": lambda x, y: 2 * math.prod(y) * math.prod(x[1][:2]),
    # Every input value meets the whole filter of its channel.
    "Conv2DBackpropInput": lambda x, y: 2 * math.prod(x[2]) * math.prod(x[1][:-1]),
    "Conv3DBackpropInputV2": lambda x, y: 2 * math.prod(x[2]) * math.prod(x[1][:-1]),
    "MatMul": _product,
    "BatchMatMulV2": _product,
}

# Filters: channels out, height, width, channels in; 3-D ones as in TensorFlow.
_IN_TFLITE: dict[str, Callable[[Shapes, Sequence[int]], int]] = {
    "CONV_2D": lambda x, y: 2 * math.prod(y) * math.prod(x[1][1:]),
    "CONV_3D": lambda x, y: 2 * math.prod(y) * math.prod(x[1][:-1]),
    "DEPTHWISE_CONV_2D": lambda x, y: 2 * math.prod(y) * math.prod(x[1][1:3]),
    "TRANSPOSE_CONV": lambda x, y: 2 * math.prod(x[2]) * math.prod(x[1][:-1]),
    "CONV_3D_TRANSPOSE": lambda x, y: 2 * math.prod(x[2]) * math.prod(x[1][:-1]),
    "FULLY_CONNECTED": lambda x, y: 2 * math.prod(y) * x[1][-1],
    "BATCH_MATMUL": _product,
}
