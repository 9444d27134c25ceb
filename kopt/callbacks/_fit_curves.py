"""What the curves of training and validation say, as functions on arrays.

All values are such that lower is better.
"""

from __future__ import annotations

import numpy as np

# A change has to be this many times the noise of a curve, and this share of its value.
_NOISES, _SHARE = 3.0, 0.01


def noise(values: np.ndarray) -> float:
    """The standard deviation of a curve around its own trend.

    From second differences, which a straight line does not have: those of independent
    noise have sqrt(6) times its deviation, and the median of the absolute values of a
    normal distribution is 0.6745 deviations.
    """
    if len(values) < 3:
        return 0.0
    bends = np.abs(np.diff(values, n=2))
    return float(np.median(bends) / (0.6745 * np.sqrt(6.0)))


def recent(values: np.ndarray, count: int = 3) -> float:
    """The mean of the last few values, which are less noisy together."""
    return float(np.mean(values[-count:]))


def level(values: np.ndarray, epoch: int) -> float:
    """The value of an epoch with its neighbours: a best one alone is best by luck."""
    return float(np.mean(values[max(0, epoch - 1) : epoch + 2]))


def best(values: np.ndarray) -> int:
    """The epoch of the best value, the first of several."""
    finite = np.where(np.isfinite(values), values, np.inf)
    return int(np.argmin(finite))


def is_worse(values: np.ndarray) -> bool:
    """Whether a curve has risen since its best, by more than its noise."""
    least = level(values, best(values))
    after = values[best(values) + 1 :]
    if not len(after):
        return False
    return recent(after) - least > _threshold(values, least)


def has_improved_since(values: np.ndarray, epoch: int) -> bool:
    """Whether a curve has fallen since an epoch, by more than its noise."""
    after = values[epoch + 1 :]
    if not len(after):
        return False
    before = level(values, epoch)
    return before - recent(after) > _threshold(values, before)


def is_falling(values: np.ndarray, count: int) -> bool:
    """Whether the last values of a curve are still falling."""
    if len(values) <= count:
        return False
    return has_improved_since(values, len(values) - 1 - count)


def _threshold(values: np.ndarray, value: float) -> float:
    return max(_NOISES * noise(values), _SHARE * abs(value))
