"""Ways to come from the batches that pass a tensor to one range for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from kopt.quantization._histogram import Histogram
from kopt.quantization.ranges import enclosing_range, grid


class Observer(Protocol):
    """Sees the values of one tensor, batch by batch, and settles on a range."""

    def observe(self, values: np.ndarray) -> None:
        """Take note of one batch."""

    def settle(self) -> tuple[float, float]:
        """The range."""


class MinMax:
    """From the smallest to the largest value of all."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def observe(self, values: np.ndarray) -> None:
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))

    def settle(self) -> tuple[float, float]:
        return self.low, self.high


class MovingAverage:
    """An average of the batches' ranges, in which later batches count more.

    It starts from nothing and is corrected for that, as the moments of Adam are: the
    first batch alone gives its own range.
    """

    def __init__(self, momentum: float = 0.9) -> None:
        self.momentum = momentum
        self.low = self.high = self.weight = 0.0

    def observe(self, values: np.ndarray) -> None:
        keep, take = self.momentum, 1.0 - self.momentum
        self.low = keep * self.low + take * float(values.min())
        self.high = keep * self.high + take * float(values.max())
        self.weight = keep * self.weight + take

    def settle(self) -> tuple[float, float]:
        return self.low / self.weight, self.high / self.weight


class Percentile:
    """All but the most extreme values on either side.

    Args:
        share: How many of the values lie below the upper end, and above the lower.
    """

    def __init__(self, share: float = 0.9999) -> None:
        self.share = share
        self.histogram = Histogram()

    def observe(self, values: np.ndarray) -> None:
        self.histogram.add(values)

    def settle(self) -> tuple[float, float]:
        quantile = self.histogram.quantile
        return quantile(1.0 - self.share), quantile(self.share)


class LeastError:
    """The range that changes the values least, in the mean of squares.

    A narrower range rounds more finely and cuts off more. Each end in turn is tried
    at shares of the largest value, until neither moves.
    """

    SHARES = np.linspace(0.05, 1.0, 96)

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.histogram = Histogram()

    def observe(self, values: np.ndarray) -> None:
        self.histogram.add(values)

    def settle(self) -> tuple[float, float]:
        low, high = enclosing_range(self.histogram.low, self.histogram.high)
        lows, highs = low * self.SHARES, high * self.SHARES
        before = None
        while before != (low, high):
            before = (low, high)
            high = min(highs, key=lambda end: self._error(low, end))
            low = min(lows, key=lambda end: self._error(end, high))
        return float(low), float(high)

    def _error(self, low: float, high: float) -> float:
        if high - low <= 0.0:
            return np.inf
        ends = grid(low, high, self.bits)
        values = self.histogram.centers
        rounded = np.clip(
            np.round(values / ends.scale) * ends.scale, ends.low, ends.high
        )
        return float(self.histogram.counts @ (rounded - values) ** 2)


# Each takes the number of bits that the range is for.
OBSERVERS: dict[str, Callable[[int], Observer]] = {
    "minmax": lambda bits: MinMax(),
    "ema": lambda bits: MovingAverage(),
    "percentile": lambda bits: Percentile(),
    "mse": LeastError,
}
