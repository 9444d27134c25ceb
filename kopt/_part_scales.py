"""Which parts of a tensor are left with too few steps by others that share its grid.

One grid of 255 steps serves all of a tensor. What is small beside the rest, or beside
an offset of the rest, gets a few of them, where a grid of its own would do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kopt._part_sums import Sums

# Fewer steps than this for what a part goes through are too few to tell its values
# apart: 3 bits.
BITS = 3.0
# With a grid of its own, a part that others have taken the steps from has this many.
_OWN_BITS = 4.0
# Steps of a grid of 8 bits.
_STEPS = 255
# With more noise than half of its variance, a part says little of what it should.
_LOST = 0.5
# A part is small beside others if the next larger one is this many times as large.
# Channels of one layer lie closer together.
_GAP = 4.0
# Of a long axis one place in so many may be small: a feature that hardly ever occurs.
_RARE = 100
# A feature that is 0 so often hardly occurs, either.
_SILENT = 0.9
# Spans below this part of the largest value are the noise of float32 sums.
_FLOAT_NOISE = 1e-5
# Fewer values do not show what a part goes through.
_FEWEST = 8


@dataclass(frozen=True)
class Scales:
    """What a grid leaves of each part of an axis; every array is as long as the axis.

    Attributes:
        bits: Bits that are left for what each part goes through.
        lost: The noise is as large as what varies.
        coarse: Fewer than 3 bits are left.
        beside_larger: Others take the steps away.
        ratio: How many times larger those others are; None without any.
    """

    bits: np.ndarray
    lost: np.ndarray
    coarse: np.ndarray
    beside_larger: np.ndarray
    ratio: float | None


def scales(sums: Sums, bits: np.ndarray | None) -> Scales:
    """What a grid leaves of each part.

    Args:
        sums: What is known of the parts.
        bits: `bits_left` of them; None where no grid is known, and the noise says how
            fine it may have been.
    """
    enough = sums.count >= _FEWEST
    varies = enough & (sums.span > _FLOAT_NOISE * sums.largest)
    noisy = varies & (sums.noise >= _LOST * sums.variance * sums.count)
    if bits is None:
        noise = np.sqrt(12.0 * sums.noise / np.maximum(sums.count, 1))
        bits = bits_left(sums.span, noise)
        weak = noisy | (varies & (bits < BITS))
    else:
        weak = varies & (bits < BITS)
    lost = noisy & weak
    below = _below_a_gap(np.sqrt(sums.variance), varies, weak, lost)
    helped = weak & has_own_bits(sums.span, sums.extent)
    # Where most parts hardly leave their offsets, no grid of its own helps the rest.
    if helped.any() and helped[weak].mean() >= 0.5:
        below |= _below_a_gap(sums.extent, varies, helped, None)
    below &= ~_silent(sums, varies & ~below)
    ratio = None
    if below.any():
        sizes = np.maximum(sums.extent, 1e-300)
        ratio = float(np.median(sizes[varies & ~below]) / np.median(sizes[below]))
    return Scales(bits, lost, weak & ~lost, below, ratio)


def bits_left(span: np.ndarray, step: float | np.ndarray) -> np.ndarray:
    """Bits that a grid leaves for what each part goes through, from low to high."""
    return np.log2(np.maximum(span / np.maximum(step, 1e-300), 1e-9) + 1.0)


def has_own_bits(span: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """Which parts a grid of their own would serve.

    What varies less than an offset of its own is coarse on any grid.

    Args:
        span: From the lowest to the highest value.
        extent: From the lowest to the highest value and 0, which every grid holds.
    """
    return np.asarray(bits_left(span, extent / _STEPS) >= _OWN_BITS)


def _below_a_gap(
    sizes: np.ndarray, varies: np.ndarray, weak: np.ndarray, lost: np.ndarray | None
) -> np.ndarray:
    """Which parts are weak because the next larger ones are so much larger."""
    below = np.zeros(sizes.shape, bool)
    order = np.flatnonzero(varies)[np.argsort(sizes[varies])]
    for rank in range(len(order) - 1):
        if not weak[order[rank]]:
            break
        under, above = order[: rank + 1], order[rank + 1 :]
        apart = sizes[above[0]] >= _GAP * sizes[under[-1]]
        if lost is not None:
            apart &= lost[under].any() and lost[above].mean() < 0.5
        if apart and len(under) * _RARE >= len(order):
            below[under] = True
    return below


def _silent(sums: Sums, others: np.ndarray) -> np.ndarray:
    """Which parts are nearly always 0, where others are not."""
    zeros = sums.zeros / np.maximum(sums.count, 1)
    usual = float(np.median(zeros[others])) if others.any() else 0.0
    return np.asarray((zeros > _SILENT) & (zeros > usual))
