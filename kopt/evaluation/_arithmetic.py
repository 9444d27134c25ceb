"""How much arithmetic one prediction takes: matrix products and convolutions.

A multiplication and its addition count as two operations. Everything else (activations,
normalization, pooling) is left out: it is a small part of the work, and what it costs
depends on the runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from kopt.export import Interpreter

Shapes = Sequence[Sequence[int]]


def of_graph(graph: tf.Graph) -> int | None:
    """Operations in a TensorFlow graph; None where loops or open sizes hide them."""
    # The bodies of functions carry no shapes: they may not hold what counts.
    library = graph.as_graph_def().library
    hidden = {node.op for function in library.function for node in function.node_def}
    total = 0
    for operation in graph.get_operations():
        kind = operation.type
        if kind in _LOOPS or (
            kind in _CALLS and hidden & (_LOOPS | set(_IN_TENSORFLOW))
        ):
            return None
        if kind == "Einsum":
            count = _einsum(operation)
        elif kind in _IN_TENSORFLOW:
            shapes = [tensor.shape for tensor in operation.inputs]
            count = _counted(_IN_TENSORFLOW[kind], shapes, operation.outputs[0].shape)
        else:
            continue
        if count is None:
            return None
        total += count
    return total


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


def _counted(
    rule: Callable[[Shapes, Sequence[int]], int],
    inputs: Sequence[tf.TensorShape],
    output: tf.TensorShape,
) -> int | None:
    if not all(shape.is_fully_defined() for shape in (*inputs, output)):
        return None
    return rule([shape.as_list() for shape in inputs], output.as_list())


def _einsum(operation: tf.Operation) -> int | None:
    """Each combination of the positions along all axes is one product."""
    equation = operation.get_attr("equation").decode()
    if "." in equation:
        return None
    sizes: dict[str, int] = {}
    for letters, tensor in zip(
        equation.split("->")[0].split(","), operation.inputs, strict=True
    ):
        if not tensor.shape.is_fully_defined():
            return None
        sizes |= dict(zip(letters, tensor.shape.as_list(), strict=True))
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
