"""How far a file's outputs are from the model's, and how far they may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from kopt._part_sums import PartSums
from kopt._parts import Limits, Part, judged

# Float kernels only sum in another order: no value may be off by more than this part of
# the largest one.
_LARGEST_ERROR = {None: 1e-3, "float16": 2e-2}

# Where values are rounded to integers one sample near a border may flip, so the mean
# error counts: no more than this part of the mean absolute output. A file that computes
# something else is off by the whole of it.
_MEAN_ERROR = {"dynamic": 0.25, "int8": 0.25, "int16x8": 0.1, "trained int8": 0.1}


class Grid(Protocol):
    """What a comparison asks of an output of a file."""

    @property
    def is_integer(self) -> bool:
        """Whether it holds whole numbers that stand for themselves."""

    @property
    def step(self) -> float | None:
        """The size of one integer step; None if there is none."""

    @property
    def range(self) -> tuple[float, float] | None:
        """The lowest and the highest number that it can hold; None if not limited."""

    @property
    def representative(self) -> bool:
        """Whether it is compared on values like those that it was made for."""

    def span(self, axis: int | None, place: int) -> float | None:
        """What the activation that makes a part can span; None if not limited."""


@dataclass(frozen=True)
class Difference:
    """The distance between a model's output and a file's, over all samples.

    Attributes:
        max: The largest absolute difference, in units of the output.
        mean: The mean absolute difference, in units of the output.
        step: The size of one integer step (LSB) of the output; None for floats.
        agreement: Share of samples whose largest output is the same one; None where
            an output has a single value.
        limit: What was allowed, in words.
        passed: Whether the difference is within that limit, and no part is at fault.
        parts: Places of its axes and channels that are worse than the rest, the worst
            first.
    """

    max: float
    mean: float
    step: float | None
    agreement: float | None
    limit: str
    passed: bool
    parts: tuple[Part, ...] = ()

    @property
    def faults(self) -> tuple[Part, ...]:
        """The parts that are wrong, not only worth a look."""
        return tuple(part for part in self.parts if part.fault)

    @property
    def max_lsb(self) -> float | None:
        """The largest difference in integer steps of the output."""
        return self.max / self.step if self.step else None

    @property
    def mean_lsb(self) -> float | None:
        """The mean difference in integer steps of the output."""
        return self.mean / self.step if self.step else None


def difference(
    expected: np.ndarray,
    received: np.ndarray,
    mode: str | None,
    step: float | None,
    grid: Grid | None = None,
) -> Difference:
    """Compare one output.

    Args:
        expected: What the model returns, `(samples, ...)`.
        received: What the file returns, in the same units.
        mode: The quantization; "trained int8" for ranges learned in training.
        step: The size of one integer step of the file's output, or None.
        grid: What else is known of the file's output, or None.
    """
    expected, received = np.asarray(expected), np.asarray(received)
    if expected.dtype.kind in "OSU":
        return _words(expected, received)
    expected, received = expected.astype("float64"), received.astype("float64")
    with np.errstate(invalid="ignore"):
        error = np.abs(received - expected)
    # An infinity or a NaN that the model has as well is no difference.
    error[(received == expected) | (np.isnan(received) & np.isnan(expected))] = 0.0
    largest, mean = float(error.max()), float(error.mean())
    limit, passed = _judge(np.abs(expected), largest, mean, mode, step)
    agreement = None
    if expected.shape[-1] > 1 and expected.ndim > 1:
        agreement = float(np.mean(expected.argmax(-1) == received.argmax(-1)))
    parts = _parts_of(expected, received, mode, step, grid)
    passed = passed and not any(part.fault for part in parts)
    return Difference(largest, mean, step, agreement, limit, passed, parts)


def _parts_of(
    expected: np.ndarray,
    received: np.ndarray,
    mode: str | None,
    step: float | None,
    grid: Grid | None,
) -> tuple[Part, ...]:
    if grid is not None and grid.is_integer:
        # Neighbouring numbers of classes are no neighbouring values.
        return ()
    sums, outside = PartSums(), None
    if grid is not None and grid.range is not None and step:
        low, high = grid.range
        outside = (expected < low - 1.5 * step) | (expected > high + 1.5 * step)
    sums.add(expected, received, outside)
    limits = Limits(step, _MEAN_ERROR.get(str(mode)))
    if grid is not None:
        known = grid.representative
        limits = replace(limits, spans=grid.span, representative=known)
    return judged(sums, limits)


def lost_inside(
    exact: np.ndarray, rounded: np.ndarray, grid: Grid | None
) -> tuple[Part, ...]:
    """Parts of an output that rounding inside the model leaves nothing of.

    Args:
        exact: What a quantization-aware model returns without rounding.
        rounded: What it returns.
        grid: What is known of the file's output.
    """
    parts = _parts_of(exact, rounded, "rounded", grid.step if grid else None, grid)
    return tuple(
        replace(part, detail=f"{part.detail}, in the model already")
        for part in parts
        if part.kind in ("constant", "lost", "coarse") and part.fault
    )


def _words(expected: np.ndarray, received: np.ndarray) -> Difference:
    """Words are the same or not."""
    pairs = zip(expected.ravel(), received.ravel(), strict=True)
    wrong = np.array([_text(one) != _text(other) for one, other in pairs])
    largest, mean = float(wrong.max()), float(wrong.mean())
    return Difference(largest, mean, None, None, "the same words", not wrong.any())


def _text(word: object) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)


def differences(
    expected: Mapping[str, np.ndarray],
    received: Mapping[str, np.ndarray],
    mode: str | None,
    grids: Mapping[str, Grid],
) -> dict[str, Difference]:
    """Compare all outputs, by name."""
    found = {}
    for name, values in expected.items():
        grid = grids.get(name)
        step = grid.step if grid else None
        found[name] = difference(values, received[name], mode, step, grid)
    return found


def _judge(
    sizes: np.ndarray,
    largest: float,
    mean: float,
    mode: str | None,
    step: float | None,
) -> tuple[str, bool]:
    if mode in _LARGEST_ERROR:
        part = _LARGEST_ERROR[mode]
        scale = _finite(sizes, np.max)
        return f"{part:.1%} of the largest output", largest <= part * scale
    part = _MEAN_ERROR[str(mode)]
    scale = _finite(sizes, np.mean)
    limit = f"a mean error of {part:.0%} of the mean output, or 1 LSB everywhere"
    return limit, mean <= part * scale or (step is not None and largest <= 1.01 * step)


def _finite(sizes: np.ndarray, statistic: Callable[[np.ndarray], np.floating]) -> float:
    known = sizes[np.isfinite(sizes)]
    # An output of zeros alone has no scale of its own.
    return float(statistic(known)) if known.any() else 1.0
