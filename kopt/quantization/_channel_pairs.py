"""The channels between two layers, and how they are scaled.

    W1' = W1 / s, b1' = b1 / s, W2' = W2 * s, with s = sqrt(r1 / r2) for each channel

where r1 and r2 are the largest absolute weights that make a channel and take it in:
both become sqrt(r1 * r2) (Nagel et al., 2019, arXiv:1906.04721).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kopt.quantization._linear_layers import linear_axes


def equal_scales(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What to divide one range by, and multiply another by, to make them equal.

    Both become `sqrt(first * second)`. A channel of zeros is left as it is.
    """
    usable = (first > 0) & (second > 0)
    return np.sqrt(np.where(usable, first, 1) / np.where(usable, second, 1))


class Values:
    """Variables as float64 arrays, until all is done."""

    def __init__(self) -> None:
        self._arrays: dict[int, tuple[keras.Variable, np.ndarray]] = {}

    def get(self, variable: keras.Variable) -> np.ndarray:
        if id(variable) not in self._arrays:
            array = keras.ops.convert_to_numpy(variable.value).astype("float64")
            self._arrays[id(variable)] = (variable, array)
        return self._arrays[id(variable)][1]

    def set(self, variable: keras.Variable, array: np.ndarray) -> None:
        self._arrays[id(variable)] = (variable, array)

    def assign(self) -> None:
        for variable, array in self._arrays.values():
            variable.assign(array)


@dataclass(frozen=True)
class ChannelPair:
    """Two layers, and the batch normalizations behind each of them."""

    first: Any
    first_normalization: Any
    second: Any
    second_normalization: Any

    @property
    def channels(self) -> int:
        axes = linear_axes(self.first)
        assert axes is not None
        return math.prod(self.first.kernel.shape[axis] for axis in axes.filters)

    def ranges(self, values: Values) -> tuple[np.ndarray, np.ndarray]:
        first = _folded(self.first, self.first_normalization, values)
        second = _folded(self.second, self.second_normalization, values)
        outgoing = linear_axes(self.first)
        incoming = linear_axes(self.second)
        assert outgoing is not None and incoming is not None
        made = _largest(first, outgoing.filters).reshape(-1)
        taken = _largest(second, incoming.incoming)
        # `Flatten` puts the channels of all positions one after the other.
        return made, taken.reshape(-1, self.channels).max(axis=0)

    def rescale(self, values: Values, scale: np.ndarray) -> None:
        """Divide the channels of the first, multiply those of the second."""
        layer, normalization = self.first, self.first_normalization
        if normalization is None:
            axes = linear_axes(layer)
            assert axes is not None
            kernel = values.get(layer.kernel)
            values.set(layer.kernel, kernel / _along(kernel, axes.filters, scale))
            if layer.use_bias:
                values.set(layer.bias, values.get(layer.bias) / scale)
        else:
            _rescale_normalization(normalization, values, scale)
        kernel = values.get(self.second.kernel)
        incoming = linear_axes(self.second)
        assert incoming is not None
        tiled = np.tile(scale, kernel.shape[incoming.incoming[0]] // len(scale))
        factors = _along(kernel, incoming.incoming, tiled)
        values.set(self.second.kernel, kernel * factors)


def _rescale_normalization(layer: Any, values: Values, scale: np.ndarray) -> None:
    if layer.scale:
        values.set(layer.gamma, values.get(layer.gamma) / scale)
    else:
        variance = values.get(layer.moving_variance) + layer.epsilon
        values.set(layer.moving_variance, variance * scale**2 - layer.epsilon)
    if layer.center:
        values.set(layer.beta, values.get(layer.beta) / scale)


def _folded(layer: Any, normalization: Any, values: Values) -> np.ndarray:
    """The kernel as the integer model has it."""
    kernel = values.get(layer.kernel)
    axes = linear_axes(layer)
    assert axes is not None
    if normalization is None:
        return kernel
    variance = values.get(normalization.moving_variance) + normalization.epsilon
    factors = 1 / np.sqrt(variance)
    if normalization.scale:
        factors = factors * values.get(normalization.gamma)
    return kernel * _along(kernel, axes.filters, factors)


def _largest(kernel: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    others = tuple(a for a in range(kernel.ndim) if a not in axes)
    return np.abs(kernel).max(axis=others)


def _along(kernel: np.ndarray, axes: tuple[int, ...], factors: np.ndarray) -> Any:
    shape = [size if axis in axes else 1 for axis, size in enumerate(kernel.shape)]
    return factors.reshape(shape)
