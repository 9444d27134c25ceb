"""What a TFLite file holds: its tensors with their constants, and its operations.

Read from the file itself, not from a runtime: a runtime hides what its delegates take
over, does not say what is constant, and refuses files whose content one would like to
see. The format is the public schema of TensorFlow Lite, version 3.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from kopt.export._sparse_layout import read_layout


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a TFLite file.

    Attributes:
        name: Its name; for inputs and outputs the name in the file's signature.
        index: Its place in the file.
        shape: Its sizes; empty for a scalar.
        dtype: NumPy's name of its type, or "int4", "resource" and the like where
            NumPy has none.
        scales: Size of one step of a quantized value: one number, or one for each
            slice along `quantized_dimension`. Empty where the tensor is not quantized.
        zero_points: The stored value that stands for 0, as many as scales.
        quantized_dimension: The axis that the scales go along.
        data: The stored values of a constant (dense, also where the file stores them
            as a sparse tensor); None for anything that is computed.
        sparse: Whether the file stores the constant as a sparse tensor.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: str
    scales: np.ndarray
    zero_points: np.ndarray
    quantized_dimension: int
    data: np.ndarray | None
    sparse: bool

    @property
    def is_float(self) -> bool:
        """Whether the values are floating-point numbers."""
        return self.dtype in ("float16", "bfloat16", "float32", "float64")

    @property
    def is_quantized(self) -> bool:
        """Whether the values are integers that stand for real numbers."""
        return self.scales.size > 0

    @property
    def zeros(self) -> int:
        """How many values of a constant stand for 0."""
        if self.data is None:
            raise ValueError(f"The tensor {self.name!r} is computed, not a constant.")
        if not self.is_quantized:
            return int(np.count_nonzero(self.data == 0))
        _, zero_points = self._along(self.data.ndim)
        return int(np.count_nonzero(self.data == zero_points))

    @property
    def real_range(self) -> tuple[float, float]:
        """The lowest and the highest real number that a quantized tensor can hold."""
        limits = np.iinfo(self.dtype)
        low, high = self.dequantize(np.array([limits.min, limits.max]))
        return float(low), float(high)

    def quantize(self, values: np.ndarray) -> np.ndarray:
        """Real numbers as the integers that this tensor would hold for them."""
        limits = np.iinfo(self.dtype)
        scales, zero_points = self._along(values.ndim)
        steps = np.round(values / scales) + zero_points
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)

    def dequantize(self, values: np.ndarray) -> np.ndarray:
        """The real numbers (float32) that integers of this tensor stand for."""
        scales, zero_points = self._along(values.ndim)
        return ((values.astype("float64") - zero_points) * scales).astype("float32")

    def _along(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Scales and zero points, shaped to multiply values of that rank."""
        if self.scales.size == 1:
            return self.scales.astype("float64"), self.zero_points
        shape = [1] * rank
        shape[self.quantized_dimension] = -1
        return self.scales.astype("float64").reshape(shape), self.zero_points.reshape(
            shape
        )


@dataclass(frozen=True)
class Operation:
    """One operation of a TFLite file: its name in the schema, tensors in and out."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class FileContents:
    """The tensors and operations of a TFLite file, those of its loops included."""

    tensors: tuple[Tensor, ...]
    operations: tuple[Operation, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def float_tensors(self) -> tuple[str, ...]:
        """Names of the float tensors inside, inputs and outputs left out."""
        border = {tensor.index for tensor in (*self.inputs, *self.outputs)}
        return tuple(
            tensor.name
            for tensor in self.tensors
            if tensor.is_float and tensor.index not in border
        )

    @property
    def has_state(self) -> bool:
        """Whether one run of the file leaves something behind for the next."""
        return any(operation.name == "ASSIGN_VARIABLE" for operation in self.operations)

    def step(self, output: Tensor) -> float | None:
        """The size of one integer step (LSB) of an output; None if it has none.

        A float output that is only the dequantized form of an integer tensor has the
        step of that tensor.
        """
        source = self.source(output)
        return float(source.scales[0]) if source.scales.size == 1 else None

    def source(self, output: Tensor) -> Tensor:
        """The integer tensor that a float output is the dequantized form of."""
        for operation in self.operations:
            if operation.name == "DEQUANTIZE" and output.index in operation.outputs:
                return self.tensors[operation.inputs[0]]
        return output

    def real_range(self, entry: Tensor) -> tuple[float, float] | None:
        """The lowest and highest number that an input can hold; None if not limited.

        A float input that is quantized at once has the range of that tensor.
        """
        target = entry
        for operation in self.operations:
            if operation.name == "QUANTIZE" and entry.index in operation.inputs:
                target = self.tensors[operation.outputs[0]]
        return target.real_range if target.scales.size == 1 else None


def signature_keys(content: bytes) -> tuple[str, ...]:
    """The names of a file's signatures: of what it can be called for."""
    model = format_reader().Model.GetRootAsModel(content, 0)
    count = model.SignatureDefsLength()
    return tuple(model.SignatureDefs(i).SignatureKey().decode() for i in range(count))


def read(
    content: bytes, *, names_of_signature: bool = True, signature: str | None = None
) -> FileContents:
    """The contents of a TFLite file that a runtime has found to be whole.

    Args:
        content: The file.
        names_of_signature: Whether inputs and outputs have the names that the file's
            signature gives them, instead of their own.
        signature: Which signature's inputs, outputs, tensors and operations to read,
            of a file with several. None for the first one's ends and all the rest.
    """
    schema = format_reader()
    model = schema.Model.GetRootAsModel(content, 0)
    ends, graphs = None, list(range(model.SubgraphsLength()))
    if model.SignatureDefsLength():
        ends = model.SignatureDefs(0)
    if signature is not None:
        ends = model.SignatureDefs(signature_keys(content).index(signature))
        graphs = _graphs_of(model, ends)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    names = _constants(schema.BuiltinOperator)
    # Old writers put small codes in the deprecated byte alone.
    kinds = [names[max(c.BuiltinCode(), c.DeprecatedBuiltinCode())] for c in codes]
    tensors: list[Tensor] = []
    operations: list[Operation] = []
    for number in graphs:
        graph, offset = model.Subgraphs(number), len(tensors)
        tensors += [
            _tensor(schema, model, graph.Tensors(i), offset + i)
            for i in range(graph.TensorsLength())
        ]
        for i in range(graph.OperatorsLength()):
            found = graph.Operators(i)
            inputs = _indices(found.InputsLength(), found.InputsAsNumpy, offset)
            outputs = _indices(found.OutputsLength(), found.OutputsAsNumpy, offset)
            operations.append(Operation(kinds[found.OpcodeIndex()], inputs, outputs))
    main = model.Subgraphs(graphs[0])
    taken = [tensors[i] for i in _indices(main.InputsLength(), main.InputsAsNumpy)]
    given = [tensors[i] for i in _indices(main.OutputsLength(), main.OutputsAsNumpy)]
    if ends is not None and names_of_signature:
        given = _named(given, [ends.Outputs(i) for i in range(ends.OutputsLength())])
        taken = _named(taken, [ends.Inputs(i) for i in range(ends.InputsLength())])
        for tensor in (*given, *taken):
            tensors[tensor.index] = tensor
    return FileContents(tuple(tensors), tuple(operations), tuple(taken), tuple(given))


def format_reader() -> ModuleType:
    """The generated reader of the format: LiteRT's, else TensorFlow's own copy."""
    try:
        return importlib.import_module("ai_edge_litert.schema_py_generated")
    except ImportError:
        return importlib.import_module("tensorflow.lite.python.schema_py_generated")


def operation_names(model: Any) -> list[str]:
    """The name of each kind of operation of a file that was read as objects."""
    names = _constants(format_reader().BuiltinOperator)
    # Old writers put small codes in the deprecated byte alone.
    return [
        names[max(one.builtinCode, one.deprecatedBuiltinCode)]
        for one in model.operatorCodes
    ]


def _constants(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if name.isupper()}


def _indices(count: int, values: Callable[[], Any], offset: int = 0) -> tuple[int, ...]:
    # -1 marks an optional input that is not there.
    return tuple(int(i) + offset for i in values() if i >= 0) if count else ()


def _graphs_of(model: Any, signature: Any) -> list[int]:
    """The graph of a signature, and those that none is called for: bodies of loops."""
    own = signature.SubgraphIndex()
    count = model.SignatureDefsLength()
    called = {model.SignatureDefs(i).SubgraphIndex() for i in range(count)}
    inner = [i for i in range(model.SubgraphsLength()) if i not in called]
    return [own, *inner]


def _named(tensors: list[Tensor], entries: list[Any]) -> list[Tensor]:
    """Tensors under the names of a signature; one that has several is there as often.

    Two outputs that are computed alike are one tensor, and an input may be an output.
    """
    names: dict[int, list[str]] = {}
    for entry in entries:
        names.setdefault(entry.TensorIndex(), []).append(entry.Name().decode())
    return [
        replace(one, name=names[one.index].pop(0)) if names.get(one.index) else one
        for one in tensors
    ]


def _tensor(schema: ModuleType, model: Any, found: Any, index: int) -> Tensor:
    quantization = found.Quantization()
    sizes = found.ShapeAsNumpy() if found.ShapeLength() else ()
    shape = tuple(int(size) for size in sizes)
    scales, zero_points, dimension = np.zeros(0), np.zeros(0, "int64"), 0
    if quantization is not None and quantization.ScaleLength():
        scales = np.array(quantization.ScaleAsNumpy())
        zero_points = np.zeros(len(scales), "int64")
        if quantization.ZeroPointLength():
            zero_points = np.array(quantization.ZeroPointAsNumpy())
        dimension = quantization.QuantizedDimension()
    dtype = _constants(schema.TensorType)[found.Type()].lower()
    buffer = model.Buffers(found.Buffer())
    data = None
    if buffer.DataLength():
        data = _stored(buffer.DataAsNumpy(), dtype)
        if found.Sparsity() is not None:
            data = read_layout(schema, found.Sparsity()).densify(data, shape)
        data = data[: int(np.prod(shape))].reshape(shape)
    return Tensor(
        found.Name().decode(),
        index,
        shape,
        dtype,
        scales,
        zero_points,
        dimension,
        data,
        found.Sparsity() is not None,
    )


def _stored(raw: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "int4":
        # Two numbers a byte, the first one in the lower half.
        halves = np.stack([raw << 4, raw], axis=-1).reshape(-1).astype("uint8")
        return halves.view("int8") >> 4
    try:
        return raw.view(np.dtype(dtype))
    except TypeError:
        return raw
