from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _stretches
from kopt.schedules._base import Schedule, in_steps, increasing, length


@register("schedules")
class MultiStep(Schedule):
    """Multiply the value by a factor at each of a few steps.

    The classic of image classification: the rate falls to a tenth after a half and
    after three quarters of the run. For values of other proportions, or anything but
    constants between the milestones, see `kopt.schedules.Sequential`.

    Args:
        initial: The value at step 0. At least 0.
        milestones: The steps from which the value is lower, increasing: whole numbers,
            or floats in (0, 1], fractions of the run (see
            `kopt.callbacks.FitSchedule`).
        factor: What the value is multiplied by. Between 0 and 1. Defaults to `0.1`.

    Raises:
        ValueError: If an argument is out of its range, or milestones do not increase.

    Reference:
        He et al., 2015, Deep Residual Learning for Image Recognition,
        [arXiv:1512.03385](https://arxiv.org/abs/1512.03385), section 4.2.

    Example:

    >>> schedule = kopt.schedules.MultiStep(0.1, milestones=(0.5, 0.75)).bind(100)
    >>> [round(float(schedule(step)), 4) for step in (0, 49, 50, 74, 75)]
    [0.1, 0.1, 0.01, 0.01, 0.001]
    """

    lengths = ("milestones",)

    def __init__(
        self,
        initial: float,
        milestones: Sequence[int | float],
        factor: float = 0.1,
    ):
        self.initial = _checks.number("initial", initial, low=0.0)
        self.milestones = increasing("milestones", milestones, length)
        self.factor = _checks.number(
            "factor", factor, low=0.0, high=1.0, low_open=True, high_open=True
        )

    def curve(self, step: Any) -> Any:
        values = [
            self.initial * self.factor**passed
            for passed in range(len(self.milestones) + 1)
        ]
        return _stretches.look_up(values, _stretches.place(step, self._steps))

    @property
    def _steps(self) -> list[int]:
        return [int(milestone) for milestone in self.milestones]

    def bind(self, total_steps: int) -> Self:
        bound: list[int] = []
        for milestone in self.milestones:
            # Two that a short run would round to one step follow each other.
            at = in_steps(milestone, total_steps)
            bound.append(max(at, bound[-1] + 1) if bound else at)
        return type(self)(self.initial, bound, self.factor)

    @property
    def peak(self) -> float:
        return self.initial

    @property
    def duration(self) -> int | None:
        return self._steps[-1] if self.bound else None

    @property
    def continuous(self) -> bool:
        return False

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(0.1, (50, 75)), cls(1.0, (1, 10, 30), factor=0.5)
