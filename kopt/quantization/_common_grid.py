"""Tensors put on the grid of an operation that has one grid for all that it takes.

A converter that finds a tensor rounded to two ranges, one right behind the other,
refuses the model, or takes the first grid for both: what goes beyond it is cut off.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import tensorflow as tf

from kopt.quantization._activation_range import ActivationRange

#: TensorFlow's operations whose result has the grid of what they take.
MOVES = frozenset(
    """
    AvgPool BatchToSpaceND BroadcastTo ConcatV2 DepthToSpace ExpandDims Gather GatherNd
    GatherV2 Identity Max Maximum MaxPool Min Minimum MirrorPad Pack Pad PadV2 Reshape
    ResizeBilinear ResizeNearestNeighbor ReverseSequence ReverseV2 Select SelectV2 Slice
    SpaceToBatchND SpaceToDepth Split SplitV Squeeze StridedSlice Tile TopKV2 Transpose
    Unpack
    """.split()
)

# A converter takes away a leaky ReLU of slope 1. One of nearly 1 it keeps, as an
# operation with a grid on either side, and in 8 bits it changes nothing.
_LEAST = float(np.finfo("float32").epsneg)
_SLOPES = 1000


def to_grid(one: ActivationRange, values: Any) -> Any:
    """Values rounded to a range, for a converter, whatever grid they lie on."""
    if _is_rounded(values):
        values = tf.nn.leaky_relu(values, alpha=1.0 - _LEAST * _number(one))
    return one(values)


def off_grid(values: Any) -> Any:
    """The same values for an operation in float that a converter would make integer.

    An average of integers it takes for one on their grid, and rounds it.
    """
    return (
        tf.nn.leaky_relu(values, alpha=1.0 - _LEAST) if _is_rounded(values) else values
    )


def _number(one: ActivationRange) -> int:
    """A number for each range: equal operations a converter makes one of."""
    return 1 + zlib.crc32(one.path.encode()) % _SLOPES


def _is_rounded(values: Any) -> bool:
    """Whether the values come from a range, at most moved since."""
    if not isinstance(getattr(values, "graph", None), tf.Graph):
        return False
    operation = values.op
    while operation.type in MOVES:
        operation = next(one for one in operation.inputs if one.dtype.is_floating).op
    return str(operation.type).startswith("FakeQuant")
