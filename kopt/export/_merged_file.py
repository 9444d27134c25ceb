"""Several TFLite files as one, each under a signature of its own.

What is the same in them, weights that models share above all, is stored once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flatbuffers
import numpy as np

from kopt.export._file_contents import format_reader

# Where an operation names other graphs of the file, such as the body of a loop.
_GRAPH_NUMBERS = (
    "subgraph",
    "condSubgraphIndex",
    "bodySubgraphIndex",
    "thenSubgraphIndex",
    "elseSubgraphIndex",
    "initSubgraphIndex",
    "decompositionSubgraphIndex",
)

# Runtimes read numbers of up to 16 bytes where they stand.
_ALIGNMENT = 16


def merged(files: Mapping[str, bytes]) -> bytes:
    """One file with the graphs of all; each has one signature, which gets its name."""
    schema = format_reader()
    whole = _Merged(schema)
    for name, content in files.items():
        reader = schema.Model.GetRootAsModel(content, 0)
        whole.add(name, schema.ModelT.InitFromObj(reader))
    return packed(whole.model)


def packed(model: Any) -> bytes:
    """The bytes of a file of objects, with each constant once."""
    numbers: dict[bytes, int] = {}
    buffers: list[_Buffer] = []

    def number_of(old: int) -> int:
        data = model.buffers[old].data
        content = b"" if data is None else np.asarray(data).tobytes()
        if content not in numbers:
            numbers[content] = len(buffers)
            buffers.append(_Buffer(content))
        return numbers[content]

    # The first buffer of a file is that of all that is computed.
    model.buffers[0].data = None
    number_of(0)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = number_of(tensor.buffer)
    for entry in model.metadata or []:
        entry.buffer = number_of(entry.buffer)
    model.buffers = buffers
    builder = flatbuffers.Builder(sum(len(one.content) for one in buffers) + 1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Merged:
    """A file in the making."""

    def __init__(self, schema: Any) -> None:
        self._codes: dict[tuple[Any, ...], int] = {}
        model = self.model = schema.ModelT()
        model.version, model.description = 3, b"kopt"
        model.operatorCodes, model.subgraphs, model.signatureDefs = [], [], []
        model.buffers = [schema.BufferT()]

    def add(self, name: str, part: Any) -> None:
        first = len(self.model.subgraphs)
        codes = [self._code(code) for code in part.operatorCodes]
        # The first one stands for all that is computed.
        before = len(self.model.buffers)
        self.model.buffers += part.buffers
        for graph in part.subgraphs:
            for tensor in graph.tensors:
                tensor.buffer += before
            for operation in graph.operators or []:
                operation.opcodeIndex = codes[operation.opcodeIndex]
                _move_graphs(operation, first)
            self.model.subgraphs.append(graph)
        (signature,) = part.signatureDefs
        signature.signatureKey = name.encode()
        signature.subgraphIndex += first
        self.model.signatureDefs.append(signature)

    def _code(self, code: Any) -> int:
        key = (
            code.builtinCode,
            code.deprecatedBuiltinCode,
            code.customCode,
            code.version,
        )
        if key not in self._codes:
            self._codes[key] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        return self._codes[key]


class _Buffer:
    """Stored bytes, where runtimes can read numbers of any size."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def Pack(self, builder: Any) -> int:
        schema, size = format_reader(), len(self.content)
        if not size:
            return int(schema.BufferT().Pack(builder))
        builder.StartVector(1, size, _ALIGNMENT)
        builder.head -= size
        builder.Bytes[builder.head : builder.head + size] = self.content
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


def _move_graphs(operation: Any, first: int) -> None:
    for options in (operation.builtinOptions, operation.builtinOptions2):
        for name in _GRAPH_NUMBERS:
            if getattr(options, name, -1) >= 0:
                setattr(options, name, getattr(options, name) + first)
