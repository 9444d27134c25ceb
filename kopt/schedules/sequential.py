from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from keras import ops

from kopt._registry import register
from kopt.schedules import _inner
from kopt.schedules._base import Schedule, in_steps, increasing, length
from kopt.schedules.constant import Constant
from kopt.schedules.cosine import Cosine
from kopt.schedules.linear import Linear


@register("schedules")
class Sequential(Schedule):
    """Schedules one after the other.

    The clock of each starts where it takes over. Fractions inside of one are fractions
    of its own stretch, so `Linear(0.1, steps=1.0)` reaches its end where the next one
    begins.

    Args:
        schedules: At least one: floats, which are held, kopt schedules, or any of
            `keras.optimizers.schedules`.
        boundaries: The steps from which the second, the third ... is followed,
            increasing: whole numbers, or floats in (0, 1], fractions of the run (see
            `kopt.callbacks.FitSchedule`).

    Raises:
        ValueError: If an argument is out of its range, boundaries do not increase, or
            there is not one fewer than schedules.

    Example:

    >>> line = kopt.schedules.Linear(0.4, steps=1.0)
    >>> schedule = kopt.schedules.Sequential([0.1, line], boundaries=[0.2]).bind(10)
    >>> [round(float(schedule(step)), 2) for step in (0, 1, 2, 6, 9, 10)]
    [0.1, 0.1, 0.4, 0.2, 0.05, 0.0]
    """

    lengths = ("boundaries",)

    def __init__(
        self,
        schedules: Sequence[_inner.Inner],
        boundaries: Sequence[int | float],
    ):
        self.schedules = tuple(
            _inner.checked(f"schedules[{place}]", schedule)
            for place, schedule in enumerate(schedules)
        )
        self.boundaries = increasing("boundaries", boundaries, length)
        if len(self.schedules) != len(self.boundaries) + 1:
            raise ValueError(
                "`boundaries` must have one step for each schedule but the first. "
                f"Received: {len(self.schedules)} schedules, {len(self.boundaries)} "
                "boundaries."
            )

    def curve(self, step: Any) -> Any:
        first, *others = self.schedules
        value = _inner.curve_of(first, step)
        for schedule, boundary in zip(others, self.boundaries, strict=True):
            after = ops.maximum(step - boundary, 0.0)
            value = ops.where(step < boundary, value, _inner.curve_of(schedule, after))
        return value

    @property
    def bound(self) -> bool:
        return super().bound and all(map(_inner.is_bound, self.schedules))

    @property
    def counts_steps(self) -> bool:
        return super().counts_steps or any(map(_inner.counts_steps, self.schedules))

    def bind(self, total_steps: int) -> Self:
        boundaries: list[int] = []
        for boundary in self.boundaries:
            # Two that a short run would round to one step follow each other.
            at = in_steps(boundary, total_steps)
            boundaries.append(max(at, boundaries[-1] + 1) if boundaries else at)
        starts, ends = [0, *boundaries], [*boundaries, total_steps]
        bound = [
            _inner.bind(schedule, end - start)
            for schedule, start, end in zip(self.schedules, starts, ends, strict=True)
        ]
        return type(self)(bound, boundaries)

    @property
    def peak(self) -> float:
        """The highest of all peaks, also where the next schedule begins before it."""
        return max(map(_inner.peak_of, self.schedules))

    @property
    def duration(self) -> int | None:
        after = _inner.duration_of(self.schedules[-1])
        if after is None or not self.bound:
            return None
        return int(self.boundaries[-1] if self.boundaries else 0) + after

    @property
    def continuous(self) -> bool:
        if not all(map(_inner.is_continuous, self.schedules)):
            return False
        starts = [0, *map(int, self.boundaries)]
        for place, boundary in enumerate(starts[1:]):
            before, after = self.schedules[place : place + 2]
            length_before = ops.convert_to_tensor(float(boundary - starts[place]))
            end = _inner.curve_of(before, length_before)
            begin = _inner.curve_of(after, ops.zeros_like(length_before))
            if abs(float(end) - float(begin)) > 1e-6 * self.peak:
                return False
        return True

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        down = Cosine(0.1, steps=40, final=0.05)
        return (
            cls([Linear(0.02, 20, final=0.1), 0.1, down], (20, 50)),
            cls([0.1, Constant(0.01), Linear(0.05, steps=30)], (10, 40)),
            cls([down], ()),
        )
