"""The verb that reads a quantized file back."""

from __future__ import annotations

import os
from collections.abc import Iterable

from kopt._registry import register
from kopt.export._file_contents import Tensor
from kopt.export.dequantized_file import (
    DequantizedFile,
    DequantizedTensor,
    is_weight,
    real_values,
)
from kopt.export.interpreter import Interpreter


@register("export")
def dequantize(path: str | os.PathLike[str]) -> DequantizedFile:
    """Read the weights and the ranges of a quantized TFLite file as real numbers.

    With `load_into`, the quantized file becomes a float Keras model again: to go on
    training it, to look for where it went wrong, or because only the file is left. Its
    weights are those of the file exactly, so within half a step of what was exported.

    Args:
        path: A `.tflite` file, of any quantization and from any converter.

    Returns:
        A `DequantizedFile`: `weights` and `activations` by name, each with scale and
        zero point, and `load_into(model)`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated or no TFLite file.

    References:
        Jacob et al., 2018, "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", arXiv:1712.05877.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> x, before = np.random.default_rng(0).normal(size=(100, 8)), model(np.eye(8))
        >>> report = kopt.export.tflite(model, "m.tflite", "int8", x)
        >>> model.set_weights([np.zeros((8, 3)), np.zeros(3)])
        >>> loaded = kopt.export.dequantize("m.tflite").load_into(model)
        >>> loaded.complete, bool(np.allclose(model(np.eye(8)), before, atol=0.01))
        (True, True)
    """
    contents = Interpreter(path).contents
    weights = [tensor for tensor in contents.tensors if is_weight(tensor)]
    activations = [
        tensor
        for tensor in contents.tensors
        if tensor.data is None and tensor.is_quantized
    ]
    return DequantizedFile(_by_name(weights), _by_name(activations), contents)


def _by_name(tensors: Iterable[Tensor]) -> dict[str, DequantizedTensor]:
    found: dict[str, DequantizedTensor] = {}
    for tensor in tensors:
        name = tensor.name
        if name in found:
            # Loops have graphs of their own, in which names come again.
            name = f"{name}#{tensor.index}"
        constant = tensor.data is not None
        ranged = not constant and tensor.scales.size == 1
        found[name] = DequantizedTensor(
            name=name,
            dtype=tensor.dtype,
            shape=tensor.shape,
            scale=tensor.scales,
            zero_point=tensor.zero_points,
            axis=tensor.quantized_dimension,
            values=real_values(tensor) if constant else None,
            range=tensor.real_range if ranged else None,
        )
    return found
