"""Sums over a tensor and what became of it, for each place of its axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

# So many values at once: what is summed up is larger than the memory of some machines.
_AT_ONCE = 1 << 22
# A sample of at most so many values is small enough to look at each of them.
_SMALL = 1 << 18


@dataclass
class Sums:
    """What is known of each part of an axis; every array is as long as the axis.

    Attributes:
        count: How many values were compared.
        total: Sum of the exact values.
        squares: Sum of their squares.
        size: Sum of their absolute values.
        noise: Sum of the squared errors.
        error: Sum of the absolute errors.
        zeros: How many exact values are 0.
        outside: How many exact values lie beyond the range of the others.
        broken: How many values are NaN or infinite where the exact ones are not.
        largest_error: The largest absolute error.
        high: The largest exact value; `low` is the smallest.
        got_high: The largest received value; `got_low` is the smallest.
    """

    count: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    size: np.ndarray
    noise: np.ndarray
    error: np.ndarray
    zeros: np.ndarray
    outside: np.ndarray
    broken: np.ndarray
    largest_error: np.ndarray
    high: np.ndarray
    got_high: np.ndarray
    low: np.ndarray
    got_low: np.ndarray

    @property
    def span(self) -> np.ndarray:
        """From the smallest to the largest exact value."""
        return self.high - self.low

    @property
    def extent(self) -> np.ndarray:
        """The width of the range that a part alone needs, which holds 0."""
        return np.maximum(self.high, 0.0) - np.minimum(self.low, 0.0)

    @property
    def largest(self) -> float:
        """The largest absolute exact value of all."""
        return float(np.maximum(np.abs(self.high), np.abs(self.low)).max())

    @property
    def variance(self) -> np.ndarray:
        """Variance of the exact values."""
        mean = self.total / self.count
        return np.maximum(self.squares / self.count - mean**2, 0.0)

    def joined(self, other: Sums) -> Sums:
        """Both together."""
        found: dict[str, np.ndarray] = {}
        for one in fields(self):
            pair = getattr(self, one.name), getattr(other, one.name)
            if one.name.endswith("low"):
                found[one.name] = np.minimum(*pair)
            elif one.name.endswith("high") or one.name.startswith("largest"):
                found[one.name] = np.maximum(*pair)
            else:
                found[one.name] = pair[0] + pair[1]
        return Sums(**found)


class PartSums:
    """`Sums` for the axes of a tensor, from one batch after the other.

    Args:
        axes: The axes to look at, as indices of Python; None looks at all but the
            first, which counts samples.

    Attributes:
        by_axis: `Sums` by the axis, counted from the first one, which is 0.
        whole: `Sums` of everything, of length 1.
        each: `Sums` of each value of a sample, over all samples; None where only some
            axes are looked at or a sample is large.
        samples: How many samples were compared.
    """

    def __init__(self, axes: Sequence[int] | None = None) -> None:
        self._axes = axes
        self.by_axis: dict[int, Sums] = {}
        self.whole: Sums | None = None
        self.each: Sums | None = None
        self.samples = 0
        self.rank = 0

    def add(self, exact: np.ndarray, received: np.ndarray, outside: Any = None) -> None:
        """Take note of one batch.

        Args:
            exact: The right values, `(samples, ...)`.
            received: What became of them, of the same shape.
            outside: Whether each exact value lies beyond the range of the others.
        """
        self.rank = exact.ndim
        each = max(exact[:1].size, 1)
        for start in range(0, len(exact), max(_AT_ONCE // each, 1)):
            chosen = slice(start, start + max(_AT_ONCE // each, 1))
            beyond = None if outside is None else outside[chosen]
            self._add(exact[chosen], received[chosen], beyond)
        self.samples += len(exact)

    def _add(self, exact: np.ndarray, received: np.ndarray, outside: Any) -> None:
        values = _compared(exact, received, outside)
        everything = tuple(range(exact.ndim))
        found = _summed(values, everything)
        self.whole = found if self.whole is None else self.whole.joined(found)
        if self._axes is None and exact[0].size <= _SMALL:
            one = _summed(values, (0,))
            same = self.each is not None and self.each.count.shape == one.count.shape
            self.each = self.each.joined(one) if self.each and same else one
        for axis in _positive(self._axes, exact.ndim):
            others = tuple(one for one in everything if one != axis)
            found = _summed(values, others)
            before = self.by_axis.get(axis)
            if before is None or before.count.shape == found.count.shape:
                self.by_axis[axis] = found if before is None else before.joined(found)
            else:
                # Batches of several sizes: there is no same place to compare.
                self._axes = [
                    one for one in _positive(self._axes, exact.ndim) if one != axis
                ]
                del self.by_axis[axis]


def _positive(axes: Sequence[int] | None, rank: int) -> list[int]:
    if axes is None:
        return list(range(1, rank))
    # The axis of samples is no place of a tensor.
    return [axis % rank for axis in axes if rank > 1]


def _compared(
    exact: np.ndarray, received: np.ndarray, outside: Any
) -> dict[str, np.ndarray]:
    exact, received = exact.astype("float64"), received.astype("float64")
    known = np.isfinite(exact)
    broken = known & ~np.isfinite(received)
    used = known & ~broken
    exact, received = np.where(used, exact, 0.0), np.where(used, received, 0.0)
    error = np.abs(received - exact)
    return {
        "count": used,
        "total": exact,
        "squares": exact**2,
        "size": np.abs(exact),
        "noise": error**2,
        "error": error,
        "zeros": used & (exact == 0.0),
        "outside": np.zeros(1) if outside is None else outside & used,
        "broken": broken,
        "largest_error": error,
        "high": np.where(used, exact, -np.inf),
        "got_high": np.where(used, received, -np.inf),
        "low": np.where(used, exact, np.inf),
        "got_low": np.where(used, received, np.inf),
    }


def _summed(values: dict[str, np.ndarray], axes: tuple[int, ...]) -> Sums:
    found = {}
    for name, array in values.items():
        if array.ndim != values["count"].ndim:
            found[name] = np.zeros(1)
        elif name.endswith("low"):
            found[name] = np.atleast_1d(array.min(axes))
        elif name.endswith("high") or name.startswith("largest"):
            found[name] = np.atleast_1d(array.max(axes))
        else:
            found[name] = np.atleast_1d(array.sum(axes, dtype="float64"))
    shape = found["count"].shape
    found["outside"] = np.broadcast_to(found["outside"], shape)
    return Sums(**found)
