from __future__ import annotations

from typing import Any, Self

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.schedules._base import Schedule


@register("schedules")
class Constant(Schedule):
    """The same value at every step.

    For a part of `kopt.schedules.Sequential`, and for `kopt.callbacks.FitSchedule`,
    which takes schedules: the rate of a run is then in its history like any other.

    Args:
        value: The value. At least 0.

    Raises:
        ValueError: If `value` is negative or not finite.

    Example:

    >>> schedule = kopt.schedules.Constant(0.1)
    >>> [round(float(schedule(step)), 3) for step in (0, 1000)]
    [0.1, 0.1]
    """

    def __init__(self, value: float):
        self.value = _checks.number("value", value, low=0.0)

    def curve(self, step: Any) -> Any:
        return ops.full_like(step, self.value)

    @property
    def peak(self) -> float:
        return self.value

    @property
    def duration(self) -> int | None:
        return 0

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(0.1), cls(0.0)
