"""The grid of a file's output, and which operation makes each part of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass

import keras
import numpy as np

from kopt._keras.layer_tree import with_nested_layers
from kopt.export._file_contents import FileContents, Operation, Tensor

# From the lowest to the highest value that an operation can make.
_SPANS = {"LOGISTIC": 1.0, "SOFTMAX": 1.0, "TANH": 2.0}
# A leaky ReLU stands where quantization brings an input of a join to the join's grid.
_HANDED_ON = frozenset(
    "DEQUANTIZE QUANTIZE RESHAPE SQUEEZE EXPAND_DIMS LEAKY_RELU".split()
)

# What takes a part of a tensor, which can span as much as all of it.
_TAKEN = frozenset("GATHER SLICE SPLIT SPLIT_V STRIDED_SLICE TRANSPOSE UNPACK".split())


@dataclass(frozen=True)
class OutputGrid:
    """What is known of the values that an output of a file can have.

    Attributes:
        contents: The file.
        output: The output.
        representative: Whether it is compared on samples like those that it was made
            for, not on random ones.
    """

    contents: FileContents
    output: Tensor
    representative: bool = True

    @property
    def is_integer(self) -> bool:
        """Whether the output holds whole numbers that stand for themselves."""
        return not self.output.is_float and not self.output.is_quantized

    @property
    def step(self) -> float | None:
        """The size of one integer step; None if there is none."""
        return self.contents.step(self.output)

    @property
    def range(self) -> tuple[float, float] | None:
        """The lowest and the highest number that it can hold; None if not limited."""
        source = self.contents.source(self.output)
        return source.real_range if source.scales.size == 1 else None

    def span(self, axis: int | None, place: int) -> float | None:
        """What the activation that makes a part can span; None if not limited."""
        makers = self._makers(axis, place, _HANDED_ON | _TAKEN)
        found = [_SPANS.get(one.name) for one in makers]
        known = [one for one in found if one is not None]
        return max(known) if found and len(known) == len(found) else None

    def layer(self, model: keras.Model, axis: int | None, place: int) -> str:
        """Name of the layer that makes a part; empty if that is not clear."""
        makers = list(self._makers(axis, place))
        if len(makers) != 1:
            return ""
        layers = {layer.name for layer in with_nested_layers(model)} - {model.name}
        for name in self._names(makers[0]):
            for step in reversed(name.split(";")[-1].split("/")):
                plain = step if step in layers else re.sub(r"_\d+$", "", step)
                if plain in layers:
                    return plain
        return ""

    def _names(self, operation: Operation) -> list[str]:
        """What an operation is called, and its constants: an output tells nothing."""
        tensors = [self.contents.tensors[i] for i in operation.inputs]
        constants = [one.name for one in tensors if one.data is not None]
        names = [self.contents.tensors[i].name for i in operation.outputs]
        return names + constants + [one.name for one in tensors if one.data is None]

    def _makers(
        self, axis: int | None, place: int, passed: Set[str] = _HANDED_ON
    ) -> Iterator[Operation]:
        producers = {
            index: operation
            for operation in self.contents.operations
            for index in operation.outputs
        }
        waiting: list[tuple[int, int | None, int]] = [(self.output.index, axis, place)]
        while waiting:
            index, axis, place = waiting.pop()
            operation = producers.get(index)
            if operation is None:
                continue
            if operation.name in passed:
                source = self._source(operation)
                axis = self._handed_on(operation, source, axis)
                waiting.append((source, axis, place))
            elif operation.name == "CONCATENATION":
                waiting += self._joined(operation, axis, place)
            else:
                yield operation

    def _source(self, operation: Operation) -> int:
        """The tensor that an operation hands on: the first that is no constant."""
        tensors = self.contents.tensors
        computed = [one for one in operation.inputs if tensors[one].data is None]
        return (computed or list(operation.inputs))[0]

    def _handed_on(
        self, operation: Operation, source: int, axis: int | None
    ) -> int | None:
        """The same axis in front of an operation; None if there is no such axis."""
        before = self.contents.tensors[source].shape
        after = self.contents.tensors[operation.outputs[0]].shape
        if before == after and operation.name not in _TAKEN:
            return axis
        last = axis == len(after) - 1 and before[-1:] == after[-1:]
        return len(before) - 1 if last else None

    def _joined(
        self, operation: Operation, axis: int | None, place: int
    ) -> list[tuple[int, int | None, int]]:
        """Which of the joined tensors hold a place, and where."""
        shapes = [self.contents.tensors[i].shape for i in operation.inputs]
        result = self.contents.tensors[operation.outputs[0]].shape
        total = [sum(sizes) for sizes in zip(*shapes, strict=True)]
        joined = [one for one in range(len(result)) if total[one] == result[one]]
        if axis is None or joined != [axis]:
            return [(index, axis, place) for index in operation.inputs]
        ends = np.cumsum([shape[axis] for shape in shapes])
        number = int(np.searchsorted(ends, place, side="right"))
        start = int(ends[number - 1]) if number else 0
        return [(operation.inputs[number], axis, place - start)]
