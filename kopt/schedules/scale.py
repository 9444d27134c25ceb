from __future__ import annotations

from typing import Any, Self

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _inner
from kopt.schedules._base import Schedule
from kopt.schedules.cosine import Cosine
from kopt.schedules.warmup import Warmup


@register("schedules")
class Scale(Schedule):
    """A schedule times a number.

    For a recipe at another batch size or width, and for a part of a model that is to
    follow the same curve at a tenth of the rate.

    Args:
        schedule: A float, a kopt schedule, or any
            `keras.optimizers.schedules.LearningRateSchedule`.
        factor: What its values are multiplied by. At least 0.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> recipe = kopt.schedules.Cosine(0.1, steps=1.0)
    >>> schedule = kopt.schedules.Scale(recipe, factor=4.0).bind(10)
    >>> [round(float(schedule(step)), 2) for step in (0, 5, 10)]
    [0.4, 0.2, 0.0]
    """

    def __init__(self, schedule: _inner.Inner, factor: float):
        self.schedule = _inner.checked("schedule", schedule)
        self.factor = _checks.number("factor", factor, low=0.0)

    def curve(self, step: Any) -> Any:
        return _inner.curve_of(self.schedule, step) * self.factor

    @property
    def bound(self) -> bool:
        return _inner.is_bound(self.schedule)

    @property
    def counts_steps(self) -> bool:
        return _inner.counts_steps(self.schedule)

    def bind(self, total_steps: int) -> Self:
        total_steps = _checks.integer("total_steps", total_steps, low=1)
        return type(self)(_inner.bind(self.schedule, total_steps), self.factor)

    @property
    def peak(self) -> float:
        return _inner.peak_of(self.schedule) * self.factor

    @property
    def duration(self) -> int | None:
        return _inner.duration_of(self.schedule)

    @property
    def continuous(self) -> bool:
        return _inner.is_continuous(self.schedule)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        cosine = Cosine(0.1, steps=60, final=0.02)
        return cls(Warmup(cosine, steps=20), 0.5), cls(cosine, 3.0), cls(0.1, 0.1)
