"""Ways to come from the batches that pass a tensor to one range for it."""

from __future__ import annotations

from typing import Protocol

import numpy as np


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


OBSERVERS: dict[str, type] = {"minmax": MinMax, "ema": MovingAverage}
