"""How far a file's outputs are from the model's, and how far they may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

# Float kernels only sum in another order: no value may be off by more than this part of
# the largest one.
_LARGEST_ERROR = {None: 1e-3, "float16": 2e-2}

# Where values are rounded to integers one sample near a border may flip, so the mean
# error counts: no more than this part of the mean absolute output. A file that computes
# something else is off by the whole of it.
_MEAN_ERROR = {"dynamic": 0.25, "int8": 0.25, "int16x8": 0.1, "trained int8": 0.1}


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
        passed: Whether the difference is within that limit.
    """

    max: float
    mean: float
    step: float | None
    agreement: float | None
    limit: str
    passed: bool

    @property
    def max_lsb(self) -> float | None:
        """The largest difference in integer steps of the output."""
        return self.max / self.step if self.step else None

    @property
    def mean_lsb(self) -> float | None:
        """The mean difference in integer steps of the output."""
        return self.mean / self.step if self.step else None


def difference(
    expected: np.ndarray, received: np.ndarray, mode: str | None, step: float | None
) -> Difference:
    """Compare one output.

    Args:
        expected: What the model returns, `(samples, ...)`.
        received: What the file returns, in the same units.
        mode: The quantization; "trained int8" for ranges learned in training.
        step: The size of one integer step of the file's output, or None.
    """
    expected = np.asarray(expected, "float64")
    received = np.asarray(received, "float64")
    with np.errstate(invalid="ignore"):
        error = np.abs(received - expected)
    # An infinity or a NaN that the model has as well is no difference.
    error[(received == expected) | (np.isnan(received) & np.isnan(expected))] = 0.0
    largest, mean = float(error.max()), float(error.mean())
    limit, passed = _judge(np.abs(expected), largest, mean, mode, step)
    agreement = None
    if expected.shape[-1] > 1 and expected.ndim > 1:
        agreement = float(np.mean(expected.argmax(-1) == received.argmax(-1)))
    return Difference(largest, mean, step, agreement, limit, passed)


def differences(
    expected: Mapping[str, np.ndarray],
    received: Mapping[str, np.ndarray],
    mode: str | None,
    steps: Mapping[str, float | None],
) -> dict[str, Difference]:
    """Compare all outputs, by name."""
    return {
        name: difference(expected[name], received[name], mode, steps.get(name))
        for name in expected
    }


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
