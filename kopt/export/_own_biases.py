"""Biases that several operations of a file share, each given one of its own.

The integer of a bias counts steps of its operation's input scale times the kernel's.
Where two operations add the same numbers (a layer that is called twice, two layers that
began with the same bias) the converter stores them once, in the steps of one of them,
and the runtime, which asks for no scale, reads them in those of the other.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kopt.export import _file_contents
from kopt.export._merged_file import packed

# By operation, the places of its input, kernel and bias.
_PLACES = {
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "FULLY_CONNECTED": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
}
_INTEGERS: dict[str, type[np.signedinteger]] = {"int32": np.int32, "int64": np.int64}
# The converter multiplies the scales in single precision.
_SAME = 1e-4


@dataclass(frozen=True)
class _Bias:
    """A bias in other steps than its operation counts in.

    Attributes:
        operation: The number of the operation.
        place: Which of its inputs the bias is.
        integers: The bias in the right steps.
        scales: These steps, one or one a channel.
    """

    operation: int
    place: int
    integers: np.ndarray
    scales: np.ndarray


def with_own_biases(content: bytes) -> bytes:
    """The same file, with every bias in the steps that its operation counts in."""
    found = list(_in_other_steps(_file_contents.read(content)))
    if not found:
        return content
    schema = _file_contents.format_reader()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph = model.subgraphs[0]
    # Those of the bodies of loops come behind.
    found = [one for one in found if one.operation < len(graph.operators)]
    for one in found:
        operation = graph.operators[one.operation]
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(one.integers.tobytes(), np.uint8)
        model.buffers.append(buffer)
        tensor = copy.copy(graph.tensors[operation.inputs[one.place]])
        tensor.buffer = len(model.buffers) - 1
        tensor.quantization = copy.copy(tensor.quantization)
        tensor.quantization.scale = one.scales.astype(np.float32)
        tensor.quantization.zeroPoint = np.zeros(one.scales.size, np.int64)
        graph.tensors.append(tensor)
        inputs = np.array(operation.inputs)
        inputs[one.place] = len(graph.tensors) - 1
        operation.inputs = inputs
    return packed(model)


def _in_other_steps(contents: _file_contents.FileContents) -> Iterator[_Bias]:
    tensors = contents.tensors
    for number, operation in enumerate(contents.operations):
        places = _PLACES.get(operation.name)
        if places is None or len(operation.inputs) <= places[2]:
            continue
        if min(operation.inputs[place] for place in places) < 0:
            # Without a bias.
            continue
        source, kernel, bias = (tensors[operation.inputs[place]] for place in places)
        if bias.data is None or bias.dtype not in _INTEGERS or not bias.is_quantized:
            continue
        if source.scales.size != 1 or not kernel.scales.size:
            continue
        steps = source.scales * kernel.scales
        if np.allclose(bias.scales, steps, rtol=_SAME, atol=0):
            continue
        kind = _INTEGERS[bias.dtype]
        limits = np.iinfo(kind)
        counted = np.round(bias.data * bias.scales / steps)
        integers = np.clip(counted, limits.min, limits.max).astype(kind)
        yield _Bias(number, places[2], integers, steps)
