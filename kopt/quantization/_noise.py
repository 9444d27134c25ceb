"""How much rounding changes the values that pass through a quantized model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from kopt._keras.model_state import state_kept
from kopt._part_sums import PartSums
from kopt._parts import Limits, Part, judged
from kopt.quantization._activation_range import ActivationRange
from kopt.quantization._compiled import functions_inlined
from kopt.quantization._quantized_layer import quantized_layers

# Values of a batch that are looked at by channel: all of a feature map take long.
_ENOUGH = 1 << 19


class Noise:
    """Sums over values and what became of them."""

    def __init__(self) -> None:
        self.signal = self.noise = 0.0
        self.values = self.outside = 0
        self._channels = PartSums([-1])

    def add(
        self, exact: np.ndarray, rounded: np.ndarray, outside: np.ndarray | None = None
    ) -> None:
        """Take note of some values, and of which are cut off."""
        exact = exact.astype("float64")
        self.signal += float(np.sum(exact**2))
        self.noise += float(np.sum((rounded - exact) ** 2))
        self.values += exact.size
        if outside is not None:
            self.outside += int(outside.sum())
            self._channels.add(*map(_some_rows, (exact, rounded, outside)))

    def parts(self, step: float) -> tuple[Part, ...]:
        """Channels that have too few steps of that size, the worst first."""
        return judged(self._channels, Limits(step))

    @property
    def sqnr(self) -> float:
        """Signal to noise in decibels; infinite where there is no noise."""
        if not self.noise or not self.signal:
            return np.inf
        return 10.0 * float(np.log10(self.signal / self.noise))

    @property
    def saturation(self) -> float:
        """Share of the values that were cut off."""
        return self.outside / self.values


def measured(
    model: keras.Model, batches: Iterable[Any], training: bool = False
) -> dict[int, Noise]:
    """The noise of each calibrated range of a model, by the range's identity."""
    ranges = [
        one
        for layer in quantized_layers(model)
        for one in layer.quantizer.ranges.values()
        if isinstance(one, ActivationRange) and one.calibrated
    ]
    found = {id(one): Noise() for one in ranges}
    try:
        for one in ranges:
            one.observer = _measuring(one, found[id(one)])
        with state_kept(model), functions_inlined():
            for batch in batches:
                model(batch, training=training)
    finally:
        for one in ranges:
            one.observer = None
    return found


def _measuring(one: ActivationRange, noise: Noise) -> Callable[[Any], None]:
    grid = one.grid()
    half = grid.scale / 2

    def measure(values: Any) -> None:
        exact = np.asarray(values, "float64")
        rounded = np.round(exact / grid.scale) * grid.scale
        outside = (exact < grid.low - half) | (exact > grid.high + half)
        noise.add(exact, np.clip(rounded, grid.low, grid.high), outside)

    return measure


def _some_rows(values: np.ndarray) -> np.ndarray:
    """Values by channel, `(rows, channels)`: as many rows as it takes to judge."""
    rows = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
    return rows[:: max(len(rows) * rows.shape[1] // _ENOUGH, 1)]
