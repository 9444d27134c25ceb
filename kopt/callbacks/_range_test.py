"""The mathematics of a learning rate range test, on plain arrays.

Two kinds of smoothing, for two questions. Whether to stop has to be answered from past
losses alone: the running mean of `smooth`. It lags behind by dozens of points, which
would move a slope by as much; so the finished curve is read from `trend`, which weighs
past and future alike.
"""

from __future__ import annotations

import numpy as np

_MEDIAN_OF = 5


def smooth(losses: np.ndarray, smoothing: float) -> np.ndarray:
    """The running mean of losses, unbiased from the first one on.

    m_t = s m_(t-1) + (1 - s) loss_t, divided by 1 - s^t so that the weights of the
    losses seen so far add up to one.
    """
    means = np.empty(len(losses))
    mean = 0.0
    for i, loss in enumerate(losses):
        mean = smoothing * mean + (1.0 - smoothing) * loss
        means[i] = mean / (1.0 - smoothing ** (i + 1))
    return means


def diverged(smoothed: np.ndarray, divergence: float) -> bool:
    """Whether the last smoothed loss is `divergence` times the best, or worse.

    Written as a distance from the best, so that it also holds for losses below zero.
    """
    best = smoothed.min()
    return bool(smoothed[-1] - best > (divergence - 1.0) * abs(best))


def trend(losses: np.ndarray, width: float) -> np.ndarray:
    """Losses averaged over their neighbours on both sides.

    Weights are a Gaussian of `width` points; at the ends they are those of the points
    that exist, and add up to one there too. Before that the medians of a few losses
    take their place: near the end of a sweep single batches have losses many times as
    high as those around, and one of them would split a valley in two.
    """
    edge = _MEDIAN_OF // 2
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(losses, edge, mode="edge"), _MEDIAN_OF
    )
    losses = np.median(windows, axis=1)
    places = np.arange(len(losses))
    weights = np.exp(-0.5 * np.square((places[:, None] - places) / width))
    return weights @ losses / weights.sum(axis=1)


def steepest(rates: np.ndarray, curve: np.ndarray) -> float:
    """The rate at which the curve falls fastest, by the logarithm of the rate."""
    descent = slice(_last_above(curve, 0.9), int(curve.argmin()) + 1)
    slope = np.gradient(curve, np.log(rates))
    return float(rates[descent][slope[descent].argmin()])


def halfway(rates: np.ndarray, curve: np.ndarray) -> float:
    """The last rate before the minimum with at most half of the fall behind it."""
    return float(rates[_last_above(curve, 0.5)])


def _last_above(curve: np.ndarray, share: float) -> int:
    # The plateau before the fall is most of a sweep, so its level is the median.
    before = curve[: int(curve.argmin()) + 1]
    level = before.min() + share * (np.median(before) - before.min())
    return int(np.flatnonzero(before >= level)[-1])
