"""How often values occur, counted batch by batch over a reach that grows with them."""

from __future__ import annotations

import numpy as np

from kopt.quantization.ranges import NARROWEST

BINS = 4096


class Histogram:
    """Counts in bins of one width from `-reach` to `reach`, the reach of all so far.

    When a value lies outside, the reach doubles: two bins become one.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, "int64")
        self.reach = 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        """Count one batch."""
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        furthest = max(-self.low, self.high, NARROWEST)
        self.reach = self.reach or furthest
        while self.reach < furthest:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(pairs, BINS // 4)
            self.reach *= 2.0
        self.counts += np.histogram(values, BINS, (-self.reach, self.reach))[0]

    @property
    def centers(self) -> np.ndarray:
        """The middle of each bin."""
        return (np.arange(BINS) + 0.5) * (2 * self.reach / BINS) - self.reach

    def quantile(self, share: float) -> float:
        """The value below which this share of all values lies."""
        below = np.cumsum(self.counts) / self.counts.sum()
        width = 2 * self.reach / BINS
        value = (np.searchsorted(below, share) + 1) * width - self.reach
        return float(np.clip(value, self.low, self.high))
