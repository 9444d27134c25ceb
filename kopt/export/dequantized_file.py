"""The real numbers in a file, and the way back into a Keras model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import keras
import numpy as np

from kopt import _checks
from kopt._registry import register
from kopt.export import _file_weights, _trace
from kopt.export._file_contents import FileContents, Tensor
from kopt.export._file_weights import Slot, Unit
from kopt.export._weight_matching import match


@dataclass(frozen=True, eq=False)
class DequantizedTensor:
    """One tensor of a file as real numbers.

    Attributes:
        name: Its name in the file.
        dtype: The type in which the file stores it, `"int8"`.
        shape: Its sizes in the file.
        scale: Size of one step: one number, or one for each slice along `axis`; empty
            where the tensor is not quantized.
        zero_point: The stored value that stands for 0, as many as scales.
        axis: The axis that the scales go along.
        values: For a constant the float32 numbers, `scale * (stored - zero_point)`;
            None for what is computed.
        range: For a computed tensor with one scale the smallest and largest number
            that it can hold; else None.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int
    values: np.ndarray | None
    range: tuple[float, float] | None


@dataclass(frozen=True)
class LoadReport:
    """What came of putting a file's weights into a model. `print(report)` shows it.

    Attributes:
        matched: Pairs of a weight's name in the file and the path of the layer that
            took it.
        unmatched_weights: Names of the file's weights that no layer took.
        unmatched_layers: Paths of the layers whose weights stayed as they were.
    """

    matched: tuple[tuple[str, str], ...]
    unmatched_weights: tuple[str, ...]
    unmatched_layers: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every weight of the file and every layer found its other half."""
        return not (self.unmatched_weights or self.unmatched_layers)

    def __str__(self) -> str:
        lines = [f"{layer}  <-  {name}" for name, layer in self.matched]
        lines += [f"no layer for {name}" for name in self.unmatched_weights]
        lines += [f"nothing for {layer}" for layer in self.unmatched_layers]
        return "\n".join(lines)


@register("export", serializable=False)
@dataclass(frozen=True, eq=False)
class DequantizedFile:
    """The weights and ranges of a TFLite file, from `dequantize`.

    Attributes:
        weights: The constants of the file that stand for real numbers, by name.
        activations: The computed tensors that are quantized, by name, with their
            ranges; inputs and outputs are among them.
        contents: Tensors and operations as the file stores them.
    """

    weights: Mapping[str, DequantizedTensor]
    activations: Mapping[str, DequantizedTensor]
    contents: FileContents

    def load_into(self, model: keras.Model) -> LoadReport:
        """Put the weights into a float model of the architecture that was exported.

        A layer takes weights of its kind and shape. Among several of these the names
        decide that Keras gave the layers, where the file has them, and else the order.
        (A model without a graph, as one that was subclassed, is gone through in the
        order in which its layers were made.) The file holds a batch normalization as
        part of the layer before it: so the model's own becomes one that only adds.

        Args:
            model: A built Keras model; it is changed in place.

        Returns:
            A `LoadReport`, with what was not matched.

        Raises:
            ValueError: If nothing at all fits: the model is then as it was.
        """
        _checks.keras_model("model", model)
        layers, followers = _trace.layers_in_order(model)
        free = _file_weights.slots(layers, followers)
        matched = match(
            _file_weights.units(self.contents),
            free,
            lambda unit: real_values(unit.kernel),
        )
        if not matched:
            raise ValueError(
                f"No weight of the file fits a layer of {model.name!r}. Build the "
                "model as it was when it was exported."
            )
        # Normalizations that the file has not folded into what is before them.
        apart = {id(one.slot.layer) for one in matched if one.slot.scales}
        taken: dict[int, tuple[str, str]] = {}
        for slot, unit, kernel in matched:
            path = slot.layer.path or slot.layer.name
            taken[unit.kernel.index] = (unit.kernel.name, path)
            folded = slot.normalization is not None
            if folded and id(slot.normalization) in apart:
                slot = replace(slot, normalization=None)
            if _assign(slot, unit, kernel) and unit.bias is not None:
                taken[unit.bias.index] = (unit.bias.name, path)
        missing = [
            tensor.name
            for tensor in self.contents.tensors
            if is_weight(tensor) and tensor.index not in taken
        ]
        full = {(id(one.slot.layer), one.slot.kernel) for one in matched}
        left = [s.layer for s in free if (id(s.layer), s.kernel) not in full]
        return LoadReport(
            tuple(taken.values()),
            tuple(missing),
            tuple(dict.fromkeys(layer.path or layer.name for layer in left)),
        )


def is_weight(tensor: Tensor) -> bool:
    """Whether a tensor is a constant that stands for real numbers."""
    return tensor.data is not None and (tensor.is_quantized or tensor.is_float)


def real_values(tensor: Tensor) -> np.ndarray:
    """The float32 numbers that a constant stands for."""
    assert tensor.data is not None
    if tensor.is_quantized:
        return tensor.dequantize(tensor.data)
    return tensor.data.astype("float32")


def _assign(slot: Slot, unit: Unit, kernel: np.ndarray) -> bool:
    """Give a layer its weights; returns whether the bias found a place too."""
    layer, after = slot.layer, slot.normalization
    bias = None if unit.bias is None else real_values(unit.bias).reshape(-1)
    if slot.scales:
        _set_normalization(layer, kernel, bias)
        return True
    getattr(layer, slot.kernel).assign(kernel)
    if slot.bias:
        goes_on = after is not None or bias is None
        size = layer.bias.shape
        layer.bias.assign(np.zeros(size, "float32") if goes_on else bias)
    if after is not None:
        _set_normalization(after, np.ones(after.moving_mean.shape, "float32"), bias)
        return True
    # The converter gives a layer without a bias one of zeros.
    return bool(slot.bias) or bias is None or not np.any(bias)


def _set_normalization(
    layer: keras.Layer, scale: np.ndarray, offset: np.ndarray | None
) -> None:
    """Have a batch normalization compute `inputs * scale + offset` at inference."""
    offset = np.zeros_like(scale) if offset is None else offset
    variance = np.ones_like(scale)
    mean = np.zeros_like(scale)
    if layer.scale:
        layer.gamma.assign(scale)
    else:
        variance = 1.0 / np.square(scale)
    if layer.center:
        layer.beta.assign(offset)
    else:
        mean = -offset / scale
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance - layer.epsilon)
