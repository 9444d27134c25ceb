from __future__ import annotations

import math
from typing import Any, Self

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _stretches
from kopt.schedules._base import Schedule, length


@register("schedules")
class Exponential(Schedule):
    """Decay by the same factor over each stretch of steps.

    At step t the value is `initial * rate ** (t / steps)`, but never less than
    `minimum`.

    Args:
        initial: The value at step 0. Greater than 0.
        steps: Over how many steps the value falls by the factor `rate`: a whole number,
            or a float in (0, 1], a fraction of the run (see
            `kopt.callbacks.FitSchedule`).
        rate: The factor. Between 0 and 1.
        minimum: Where the decay ends. From 0 to `initial`. Defaults to `0.0`.
        staircase: Whether to fall once at the end of each stretch, instead of a little
            at each step. Defaults to `False`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> schedule = kopt.schedules.Exponential(1.0, steps=2, rate=0.25, minimum=0.1)
    >>> [float(schedule(step)) for step in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    >>> round(float(schedule(4)), 3)
    0.1
    """

    lengths = ("steps",)

    def __init__(
        self,
        initial: float,
        steps: int | float,
        rate: float,
        minimum: float = 0.0,
        *,
        staircase: bool = False,
    ):
        self.initial = _checks.number("initial", initial, low=0.0, low_open=True)
        self.steps = length("steps", steps)
        self.rate = _checks.number(
            "rate", rate, low=0.0, high=1.0, low_open=True, high_open=True
        )
        self.minimum = _checks.number("minimum", minimum, low=0.0, high=self.initial)
        self.staircase = staircase

    def curve(self, step: Any) -> Any:
        # initial * rate^(t / steps)
        if self.staircase:
            stretches, _ = _stretches.cycle(step, self._steps)
        else:
            stretches = step / self._steps
        # The logarithm in float64: rounded, `rate` itself would be off by its power.
        decay = ops.exp(math.log(self.rate) * stretches)
        return ops.maximum(self.initial * decay, self.minimum)

    @property
    def _steps(self) -> int:
        return int(self.steps)

    @property
    def peak(self) -> float:
        return self.initial

    @property
    def duration(self) -> int | None:
        if self.minimum == 0.0 or not isinstance(self.steps, int):
            return None
        stretches = math.log(self.minimum / self.initial) / math.log(self.rate)
        # A step later than in exact arithmetic, so that rounding is past as well.
        if self.staircase:
            return (math.floor(stretches * (1 + 1e-6)) + 1) * self.steps
        return math.floor(stretches * self.steps * (1 + 1e-6)) + 1

    @property
    def continuous(self) -> bool:
        return not self.staircase

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (
            cls(0.1, steps=40, rate=0.5),
            cls(0.1, steps=20, rate=0.5, minimum=0.01),
            cls(0.1, steps=20, rate=0.5, minimum=0.01, staircase=True),
            cls(1.0, steps=3, rate=0.9, staircase=True),
        )
