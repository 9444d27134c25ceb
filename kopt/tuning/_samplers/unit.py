"""Values of a distribution as points of [0, 1], and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from optuna import distributions

from kopt.tuning._trials.finite import cardinality

# Below one, so that the last share of a finite range belongs to its last value.
_LAST = 1 - 1e-12


def to_unit(distribution: distributions.BaseDistribution, value: Any) -> float:
    """The point of a value: the middle of its share where values are finite."""
    low, high = _bounds(distribution)
    if _is_log(distribution):
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low) if high > low else 0.5


def from_unit(distribution: distributions.BaseDistribution, point: float) -> Any:
    """The value in whose share a point lies."""
    share = min(max(point, 0.0), _LAST)
    size = cardinality(distribution)
    if isinstance(distribution, distributions.CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    low, high = _bounds(distribution)
    if _is_log(distribution):
        value = math.exp(math.log(low) + point * math.log(high / low))
        return _inside(distribution, round(value) if size is not None else value)
    if size is None:
        return _inside(distribution, low + point * (high - low))
    steps: Any = distribution
    return steps.low + int(share * size) * (steps.step or 0)


def snapped(
    distribution: distributions.BaseDistribution, points: np.ndarray
) -> np.ndarray:
    """Points moved to those of the values in whose shares they lie; for numbers."""
    size = cardinality(distribution)
    if size is None:
        return points
    points = np.clip(points, 0.0, _LAST)
    if not _is_log(distribution):
        return (np.floor(points * size) + 0.5) / size
    low, high = _bounds(distribution)
    values = np.round(low * (high / low) ** points)
    values = np.clip(values, np.ceil(low), np.floor(high))
    return np.log(values / low) / np.log(high / low)


def _bounds(distribution: Any) -> tuple[float, float]:
    """The range, with half a step more at both ends where values are whole."""
    half = (distribution.step or 0) / 2
    return distribution.low - half, distribution.high + half


def _inside(distribution: Any, value: Any) -> Any:
    return min(max(value, distribution.low), distribution.high)


def _is_log(distribution: Any) -> bool:
    return bool(distribution.log)
