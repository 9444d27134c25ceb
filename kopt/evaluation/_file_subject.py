"""A TFLite file, as a measurement sees it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from kopt._data import Specs
from kopt.evaluation import _arithmetic
from kopt.export import Interpreter

# What multiplies its input with a kernel, or looks it up in a table.
_WITH_KERNEL = {
    "BATCH_MATMUL",
    "CONV_2D",
    "CONV_3D",
    "CONV_3D_TRANSPOSE",
    "DEPTHWISE_CONV_2D",
    "EMBEDDING_LOOKUP",
    "FULLY_CONNECTED",
    "GATHER",
    "TRANSPOSE_CONV",
}
# What hands a constant on, in another form.
_FORMS = {"DENSIFY", "DEQUANTIZE", "RESHAPE", "TRANSPOSE"}


class FileSubject:
    """Answers for a TFLite file."""

    kind = "tflite"

    def __init__(self, file: Interpreter) -> None:
        self.file = file
        self.name = file.path.name
        self.latency_protocol = f"batch {file.batch_size}, 1 thread"

    def specs(self) -> Specs:
        return {
            tensor.name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
            for tensor in self.file.inputs
        }

    def predict(self, x: Any, batch_size: int) -> dict[str, np.ndarray]:
        outputs = self.file.predict(x)
        return outputs if isinstance(outputs, dict) else {"output": outputs}

    def own_metrics(self, x: Any, y: Any, batch_size: int) -> dict[str, float]:
        return {}  # a file keeps none

    def stored(self) -> bytes:
        return self.file.path.read_bytes()

    def parameters(self) -> int:
        """Constants that are float or stand for floats; shapes and axes are neither."""
        return sum(
            math.prod(tensor.shape)
            for tensor in self.file.tensors
            if tensor.data is not None and (tensor.is_float or tensor.is_quantized)
        )

    def sparsity(self) -> float:
        kernels = self._kernels()
        size = sum(tensor.data.size for tensor in kernels)
        return sum(tensor.zeros for tensor in kernels) / size if size else 0.0

    def latency(self, x: Any, runs: int) -> float:
        return self.file.latency(runs, x)

    def flops(self, x: Any) -> int | None:
        return _arithmetic.of_file(self.file)

    def _kernels(self) -> list[Any]:
        source = {
            output: operation.inputs[0]
            for operation in self.file.contents.operations
            if operation.name in _FORMS
            for output in operation.outputs
        }
        used = set()
        for operation in self.file.contents.operations:
            if operation.name in _WITH_KERNEL:
                for index in operation.inputs:
                    while index in source:
                        index = source[index]
                    used.add(index)
        tensors = (self.file.tensors[index] for index in sorted(used))
        return [
            tensor
            for tensor in tensors
            if tensor.data is not None
            and len(tensor.shape) >= 2
            and (tensor.is_float or tensor.is_quantized)
        ]
