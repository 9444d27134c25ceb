"""How far the runtime's own kernels are from each other, as a measure for a file.

An integer kernel may round half a step up or away from zero, scale in fixed or in
floating point. In a deep network one step more or less at one layer becomes several at
the end, so that no model can be near to all kernels. What a model can be is no further
from a file than the kernels are from each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from kopt._registry import register
from kopt.export._comparison import Difference
from kopt.export.errors import ConversionError
from kopt.export.interpreter import KERNELS, Interpreter

if TYPE_CHECKING:
    from kopt.export._plan import Plan

# How much further than the kernels are apart a model may be from a file.
LARGEST = 1.2
# Steps of difference from a file, and share of equal choices, that need no measure.
CLOSE_LSB = 3.0
CLOSE_CHOICES = 0.995
# The reference kernels are a hundred times as slow as the others: seconds for them.
_SECONDS = 20.0
_FEWEST = 16
# Rounding to the output's own grid alone leaves up to half a step.
_LEAST = 0.5


@register("export", serializable=False)
@dataclass(frozen=True)
class KernelDistance:
    """How far the runtime's kernels are apart on one output of a file.

    The kernels are XNNPACK's, the built-in and the reference ones. Each number is that
    of the two which are furthest from each other.

    Attributes:
        max: The largest absolute difference, in units of the output.
        mean: The mean absolute difference, in units of the output.
        agreement: Share of samples whose largest output is the same one; None where an
            output has a single value.
        file: The mean absolute difference between the model and the file, on the same
            samples.
        step: The size of one integer step (LSB) of the output; None if unknown.
        worst: The largest distance between model and file at one place of an axis, as a
            multiple of the distance between kernels there.
        axis: That axis, counted with that of the samples, which is 0.
        place: The index on it.
        samples: On how many samples.
    """

    max: float
    mean: float
    agreement: float | None
    file: float
    step: float | None
    worst: float
    axis: int
    place: int
    samples: int

    @property
    def relative(self) -> float:
        """The distance between model and file as a multiple of that of the kernels."""
        return float(_multiple(self.file, self.mean, self.step))

    @property
    def explains(self) -> bool:
        """Whether the file is no further from the model than kernels are apart."""
        return max(self.relative, self.worst) <= LARGEST

    def __str__(self) -> str:
        size = f"max {self.max:.3g}, mean {self.mean:.3g}"
        if self.step:
            size += f"; max {self.max / self.step:.2f} LSB"
        if self.agreement is not None:
            size += f"; argmax agrees on {self.agreement:.2%}"
        return (
            f"{size}; the model is {self.relative:.2f} times as far, {self.worst:.2f} "
            f"times at place {self.place} of axis {self.axis} ({self.samples} samples)"
        )


def kernel_distances(
    file: Interpreter, plan: Plan, samples: Mapping[str, np.ndarray]
) -> dict[str, KernelDistance]:
    """The distance between kernels for each output of a file, by name.

    Empty where none but one kind of kernels can run the file: the reference kernels do
    not have every operation.
    """
    few, received = _received(file, samples)
    if len(received) < 2:
        return {}
    expected = plan.expected(few)
    return {
        tensor.name: distance(
            expected[tensor.name],
            [outputs[tensor.name] for outputs in received],
            file.contents.step(tensor),
        )
        for tensor in file.outputs
    }


def beside_kernels(found: Difference, apart: KernelDistance | None) -> Difference:
    """The same difference, judged by how far the kernels are apart."""
    if found.passed or apart is None or not apart.explains:
        return found
    note = "the runtime's own kernels are as far apart"
    parts = tuple(
        replace(part, fault=False, detail=f"{part.detail}; {note}")
        if part.kind == "outstanding"
        else part
        for part in found.parts
    )
    passed = not any(part.fault for part in parts)
    limit = f"{LARGEST} times the distance between the runtime's own kernels"
    return replace(found, parts=parts, passed=passed, limit=limit)


def distance(
    expected: np.ndarray, received: list[np.ndarray], step: float | None
) -> KernelDistance:
    """Compare what several kernels make of one output.

    Args:
        expected: What the model returns, `(samples, ...)`.
        received: What each of the kernels returns; the first one runs by default.
        step: The size of one integer step of the output, or None.
    """
    model, default, *others = (np.asarray(v, "float64") for v in (expected, *received))
    pairs = list(combinations((default, *others), 2))
    apart = [np.abs(one - other) for one, other in pairs]
    own = np.abs(model - default)
    agreement = None
    if model.ndim > 1 and model.shape[-1] > 1:
        same = [np.mean(one.argmax(-1) == other.argmax(-1)) for one, other in pairs]
        agreement = float(min(same))
    worst, axis, place = max(_by_place(own, apart, step))
    return KernelDistance(
        max=float(max(one.max() for one in apart)),
        mean=float(max(one.mean() for one in apart)),
        agreement=agreement,
        file=float(own.mean()),
        step=step,
        worst=worst,
        axis=axis,
        place=place,
        samples=len(model),
    )


def _by_place(
    own: np.ndarray, apart: list[np.ndarray], step: float | None
) -> Iterator[tuple[float, int, int]]:
    """For each axis the place that is relatively worst, with its multiple."""
    # An output without axes of its own is one place.
    for axis in range(1, own.ndim) or [0]:
        others = tuple(one for one in range(own.ndim) if one != axis)
        if not axis:
            others = (0,)
        kernels = np.max([np.atleast_1d(one.mean(others)) for one in apart], axis=0)
        found = _multiple(np.atleast_1d(own.mean(others)), kernels, step)
        yield float(found.max()), axis, int(found.argmax())


def _multiple(
    own: np.ndarray | float, others: np.ndarray | float, step: float | None
) -> Any:
    least = _LEAST * step if step else 1e-12
    return own / np.maximum(others, least)


def _received(
    file: Interpreter, samples: Mapping[str, np.ndarray]
) -> tuple[Mapping[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Some samples, and what each kind of kernels makes of them, the default first."""
    few: Mapping[str, np.ndarray] = samples
    received: list[dict[str, np.ndarray]] = []
    for kernels in reversed(KERNELS):
        try:
            own = Interpreter(file.path, signature=file.signature, kernels=kernels)
            if not received:
                few = _as_many_as_fit(own, few)
            received.insert(0, _by_name(own, few))
        except (ConversionError, ValueError):
            continue
    return few, received


def _as_many_as_fit(
    slow: Interpreter, samples: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """As many samples as the slow kernels can do in the time there is."""
    count = max(slow.batch_size, 1)
    first = {name: values[:count] for name, values in samples.items()}
    slow.predict(first)
    begun = time.perf_counter()
    slow.predict(first)
    seconds = max(time.perf_counter() - begun, 1e-6)
    fits = max(int(_SECONDS / seconds) * count, _FEWEST)
    return {name: values[:fits] for name, values in samples.items()}


def _by_name(
    file: Interpreter, samples: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    outputs = file.predict(samples)
    if len(file.outputs) == 1:
        return {file.outputs[0].name: outputs}
    return dict(outputs)
