"""Which weights of a file belong to which layer, and in what layout.

A file stores the weights of an operation, a layer has them under its own names and in
another order of axes; a batch normalization after a layer has gone into its weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from kopt.export._file_contents import FileContents, Operation, Tensor

# Where the weights and the bias stand among the inputs of an operation.
_PLACES = {
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (1, 3),
    "GATHER": (0, None),
    "MUL": (1, None),
}

# What only changes the type of its input.
_PASSING = ("QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True)
class Unit:
    """The weights of one operation of a file.

    Attributes:
        operation: Its name in the schema.
        kernel: The constant that it works with.
        bias: The constant that it adds, if any.
        source: Index of the kernel of the operation whose result it takes in, if that
            has one.
    """

    operation: str
    kernel: Tensor
    bias: Tensor | None
    source: int | None = None


@dataclass(frozen=True)
class Slot:
    """A place for weights in a model.

    Attributes:
        layer: The layer.
        kernel: Name of its weight.
        layouts: By the name of an operation, how its weights are turned into the
            layer's; the result has another shape where they do not fit.
        bias: Name of the weight that is added, None without one.
        normalization: The batch normalization that takes in the result, if any.
    """

    layer: keras.Layer
    kernel: str
    layouts: dict[str, Callable[[np.ndarray], np.ndarray]]
    bias: str | None = None
    normalization: keras.Layer | None = None

    @property
    def scales(self) -> bool:
        """Whether the layer only scales and moves: a batch normalization."""
        return isinstance(self.layer, keras.layers.BatchNormalization)

    def own_normalization(self) -> Slot | None:
        """The place of the batch normalization behind, should it stand for itself."""
        if self.normalization is None:
            return None
        return _of_normalization(self.normalization)

    @property
    def shape(self) -> tuple[int, ...]:
        if self.scales:
            return tuple(self.layer.moving_mean.shape)
        return tuple(getattr(self.layer, self.kernel).shape)

    def arranged(self, unit: Unit, values: np.ndarray) -> np.ndarray | None:
        """The values of a unit's kernel in this layer's layout; None if not fitting."""
        layout = self.layouts.get(unit.operation)
        if layout is None:
            return None
        try:
            arranged = layout(values)
        except ValueError:
            return None
        return arranged if arranged.shape == self.shape else None


def units(contents: FileContents) -> list[Unit]:
    """The operations of a file that have weights, in order."""
    # Half-precision constants are widened by an operation first.
    sources = {
        operation.outputs[0]: contents.tensors[operation.inputs[0]]
        for operation in contents.operations
        if operation.name == "DEQUANTIZE"
        and contents.tensors[operation.inputs[0]].data is not None
    }

    def constant(operation: Operation, place: int | None) -> Tensor | None:
        if place is None or place >= len(operation.inputs):
            return None
        index = operation.inputs[place]
        tensor = sources.get(index, contents.tensors[index])
        return tensor if tensor.data is not None else None

    found: list[Unit] = []
    # By the index of a tensor, the kernel of the operation that it comes from.
    origins: dict[int, int] = {}
    for operation in contents.operations:
        if operation.name in _PASSING and operation.inputs[0] in origins:
            origins[operation.outputs[0]] = origins[operation.inputs[0]]
        if operation.name not in _PLACES:
            continue
        kernel_place, bias_place = _PLACES[operation.name]
        kernel = constant(operation, kernel_place)
        if kernel is None:
            continue
        bias = constant(operation, bias_place)
        if operation.name == "MUL":
            bias = _added(contents, operation, constant)
        source = next((origins[i] for i in operation.inputs if i in origins), None)
        found.append(Unit(operation.name, kernel, bias, source))
        origins[operation.outputs[0]] = kernel.index
    return found


def _added(
    contents: FileContents,
    operation: Operation,
    constant: Callable[[Operation, int | None], Tensor | None],
) -> Tensor | None:
    """The constant that is added to the result of an operation."""
    values = [
        constant(one, 1)
        for one in contents.operations
        if one.name == "ADD" and operation.outputs[0] in one.inputs
    ]
    return values[0] if values else None


def slots(layers: list[keras.Layer], followers: dict[int, keras.Layer]) -> list[Slot]:
    """The places for weights in layers, in order."""
    found: list[Slot] = []
    normalized: set[int] = set()
    for layer in layers:
        follower = followers.get(id(layer))
        if not _normalizes(follower):
            follower = None
        if isinstance(layer, keras.layers.BatchNormalization):
            if id(layer) not in normalized:
                found.append(_of_normalization(layer))
            continue
        for slot in _of_layer(layer):
            if slot.bias is None and slot.kernel == "depthwise_kernel":
                found.append(slot)
                continue
            bias = slot.bias if getattr(layer, "use_bias", False) else None
            found.append(replace(slot, bias=bias, normalization=follower))
            normalized.add(id(follower))
    return found


def _normalizes(layer: Any) -> bool:
    if not isinstance(layer, keras.layers.BatchNormalization):
        return False
    return bool(layer.axis in (-1, layer.input_spec.ndim - 1))


def _of_normalization(layer: keras.Layer) -> Slot:
    return Slot(layer, "gamma", _NORMALIZATION, "beta")


def _of_layer(layer: keras.Layer) -> list[Slot]:
    kinds = keras.layers
    if isinstance(layer, (kinds.SeparableConv1D, kinds.SeparableConv2D)):
        depthwise = tuple(layer.depthwise_kernel.shape)
        return [
            Slot(layer, "depthwise_kernel", _depthwise(depthwise)),
            Slot(
                layer,
                "pointwise_kernel",
                _convolution(len(layer.pointwise_kernel.shape)),
                "bias",
            ),
        ]
    if isinstance(layer, (kinds.DepthwiseConv1D, kinds.DepthwiseConv2D)):
        return [Slot(layer, "kernel", _depthwise(tuple(layer.kernel.shape)), "bias")]
    if isinstance(layer, kinds.Conv2DTranspose):
        layout = {"TRANSPOSE_CONV": lambda values: values.transpose(1, 2, 0, 3)}
        return [Slot(layer, "kernel", layout, "bias")]
    if isinstance(layer, (kinds.Conv1D, kinds.Conv2D)):
        return [Slot(layer, "kernel", _convolution(len(layer.kernel.shape)), "bias")]
    if isinstance(layer, kinds.Dense):
        return [Slot(layer, "kernel", {"FULLY_CONNECTED": np.transpose}, "bias")]
    if isinstance(layer, kinds.Embedding):
        return [Slot(layer, "embeddings", {"GATHER": np.asarray})]
    return []


def _convolution(rank: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    def arranged(values: np.ndarray) -> np.ndarray:
        images = values.transpose(1, 2, 3, 0)
        return images if rank == 4 else images.squeeze(0)

    return {"CONV_2D": arranged}


def _depthwise(
    shape: tuple[int, ...],
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    # The file numbers a channel and its multiplier as one.
    sizes = (1, *shape[:-2], shape[-2] * shape[-1])

    def arranged(values: np.ndarray) -> np.ndarray:
        same = values.shape in (sizes, (1, *sizes))
        return values.reshape(shape) if same else values

    return {"DEPTHWISE_CONV_2D": arranged}


# A batch normalization that stands alone: a product and a sum, or both as one
# depthwise convolution of size 1.
_NORMALIZATION: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "MUL": lambda values: values.reshape(-1),
    "DEPTHWISE_CONV_2D": lambda values: values.reshape(-1),
}
