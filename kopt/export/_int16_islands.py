"""Layers with activations of 16 bits in a file of 8 bits.

TensorFlow's converter takes one type of activations for a whole file. The runtime does
not ask for that: its QUANTIZE goes from 8 bits to 16 and back. So the same graph is
converted both ways, and of the chosen layers the file of 8 bits gets the operations of
the other one, with their weights of 8 bits and their activations of 16.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from kopt.export import _file_contents
from kopt.export._float_islands import marked_operations
from kopt.export._merged_file import packed
from kopt.export.errors import ConversionError

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


def with_int16(int8: bytes, int16: bytes, items: Sequence[str]) -> bytes:
    """The file of 8 bits with the marked operations of that of 16 bits.

    Args:
        int8: The file of 8 bits.
        int16: The same graph with activations of 16 bits.
        items: The items of the islands that were marked, in that order.

    Raises:
        ConversionError: If an item leaves no operation, or one that has no kernel for
            16 bits.
    """
    contents = _file_contents.read(int8, names_of_signature=False)
    marked = marked_operations(items, contents, "have activations of 16 bits")
    chosen = {contents.operations.index(operation) for operation in marked}
    mixed = _Mixed(_unpacked(int8), _unpacked(int16), contents)
    mixed.replace(chosen)
    return packed(mixed.model)


def _unpacked(content: bytes) -> Any:
    schema = _file_contents.format_reader()
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


class _Mixed:
    """A file of 8 bits that operations of another one move into."""

    def __init__(self, model: Any, other: Any, contents: Any) -> None:
        self.model, self._other = model, other
        self._graph, self._other_graph = model.subgraphs[0], other.subgraphs[0]
        self._kinds = [one.name for one in contents.operations]
        self._made: list[Any] = []
        # By the number of a tensor of 8 bits (or float), that of its 16-bit form.
        self._wide: dict[int, int] = {}

    def replace(self, chosen: set[int]) -> None:
        """Replace the operations of these places."""
        graph = self._graph
        places = [i for i in chosen if self._kinds[i] not in _CONVERSIONS]
        partners = {place: self._partner(place) for place in places}
        narrow = _consumed(graph, partners, self._kinds)
        for place, operation in enumerate(list(graph.operators)):
            if place in partners:
                self._move(operation, partners[place], narrow)
                continue
            wide = self._wide.get(self._input(operation))
            if self._kinds[place] == "DEQUANTIZE" and wide is not None:
                operation.inputs = np.array([wide])
            self._made.append(operation)
        taken = {int(i) for one in self._made for i in one.inputs}
        taken |= {int(i) for i in graph.outputs}
        graph.operators = [
            one
            for one in self._made
            if not self._is_quantize(one) or int(one.outputs[0]) in taken
        ]
        _drop_unused(graph, self.model.signatureDefs)

    @staticmethod
    def _input(operation: Any) -> int:
        return int(operation.inputs[0]) if len(operation.inputs) else -1

    def _partner(self, place: int) -> Any:
        """The operation of the other file that computes the same."""
        kind = self._kinds[place]
        number = Counter(self._kinds[:place])[kind]
        names = _file_contents.operation_names(self._other)
        same = [
            one for one in self._other_graph.operators if names[one.opcodeIndex] == kind
        ]
        tensors = self._other_graph.tensors
        wide = _file_contents.format_reader().TensorType.INT16
        if len(same) != self._kinds.count(kind) or any(
            tensors[int(i)].type != wide for i in same[number].outputs
        ):
            raise ConversionError(
                f"The runtime has no kernel for {kind} with 16-bit activations, which "
                "`int16_layers` asks for. Keep that layer float (`float_layers`)."
            )
        return same[number]

    def _move(self, operation: Any, partner: Any, narrow: set[int]) -> None:
        moved = copy.copy(partner)
        moved.opcodeIndex = self._code(partner.opcodeIndex)
        inputs = []
        for own, theirs in zip(operation.inputs, partner.inputs, strict=True):
            inputs.append(
                int(own) if theirs < 0 else self._taken(int(own), int(theirs))
            )
        outputs = []
        for own, theirs in zip(operation.outputs, partner.outputs, strict=True):
            self._wide[int(own)] = self._copied(int(theirs))
            outputs.append(self._wide[int(own)])
        moved.inputs, moved.outputs = np.array(inputs), np.array(outputs)
        self._made.append(moved)
        for own in operation.outputs:
            if int(own) in narrow:
                self._convert(self._wide[int(own)], int(own))

    def _taken(self, own: int, theirs: int) -> int:
        """A constant, or the 16-bit form of what the operation takes."""
        if theirs < 0:
            # An input that is left out.
            return theirs
        tensor = self._other_graph.tensors[theirs]
        data = self._other.buffers[tensor.buffer].data
        if data is not None and len(data):
            return self._copied(theirs)
        wide = self._wide.get(own)
        if wide is not None and _same_grid(self._graph.tensors[wide], tensor):
            return wide
        source = own if wide is None else wide
        for made in self._made:
            # What came in as float is rounded to 16 bits, not to 8 before.
            if wide is None and own in made.outputs and self._is_quantize(made):
                source = self._input(made)
        self._wide[own] = self._copied(theirs)
        self._convert(source, self._wide[own])
        return self._wide[own]

    def _is_quantize(self, operation: Any) -> bool:
        name = _file_contents.operation_names(self.model)[operation.opcodeIndex]
        return bool(name == "QUANTIZE")

    def _copied(self, theirs: int) -> int:
        tensor = copy.copy(self._other_graph.tensors[theirs])
        self.model.buffers.append(self._other.buffers[tensor.buffer])
        tensor.buffer = len(self.model.buffers) - 1
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _convert(self, source: int, target: int) -> None:
        schema = _file_contents.format_reader()
        made = schema.OperatorT()
        made.opcodeIndex = self._code_of(schema.BuiltinOperator.QUANTIZE, 2)
        made.inputs, made.outputs = np.array([source]), np.array([target])
        self._made.append(made)

    def _code(self, theirs: int) -> int:
        code = self._other.operatorCodes[theirs]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        return self._code_of(kind, code.version)

    def _code_of(self, kind: int, version: int) -> int:
        for number, code in enumerate(self.model.operatorCodes):
            if (code.builtinCode, code.version) == (kind, version):
                return number
        code = _file_contents.format_reader().OperatorCodeT()
        code.builtinCode, code.version = kind, version
        code.deprecatedBuiltinCode = min(kind, 127)
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1


def _consumed(graph: Any, moved: Any, kinds: Sequence[str]) -> set[int]:
    """Tensors that outputs or operations of 8 bits take."""
    taken = {int(i) for i in graph.outputs}
    for place, operation in enumerate(graph.operators):
        if place not in moved and kinds[place] != "DEQUANTIZE":
            taken |= {int(i) for i in operation.inputs}
    return taken


def _same_grid(one: Any, other: Any) -> bool:
    scales = (one.quantization.scale, other.quantization.scale)
    return bool(np.array_equal(*scales))


def _drop_unused(graph: Any, signatures: Sequence[Any]) -> None:
    """Leave out tensors that nothing computes with any more."""
    ends = [*graph.inputs, *graph.outputs]
    for operation in graph.operators:
        ends += [*operation.inputs, *operation.outputs]
    used = sorted({int(i) for i in ends if i >= 0})
    place = {number: new for new, number in enumerate(used)} | {-1: -1}
    graph.tensors = [graph.tensors[number] for number in used]
    for holder in (graph, *graph.operators):
        holder.inputs = np.array([place[int(i)] for i in holder.inputs], "int32")
        holder.outputs = np.array([place[int(i)] for i in holder.outputs], "int32")
    for signature in signatures:
        for entry in (*signature.inputs, *signature.outputs):
            entry.tensorIndex = place[entry.tensorIndex]
