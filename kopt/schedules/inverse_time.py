from __future__ import annotations

from typing import Any, Self

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _stretches
from kopt.schedules._base import Schedule, length


@register("schedules")
class InverseTime(Schedule):
    """Decay with the inverse of time, which never ends and never stops training.

    At step t the value is `initial / (1 + rate * t / steps)`. The rates sum up to
    infinity while their squares do not, as stochastic approximation asks for.

    Args:
        initial: The value at step 0. At least 0.
        steps: The unit that time is counted in: a whole number of steps, or a float in
            (0, 1], a fraction of the run (see `kopt.callbacks.FitSchedule`). With the
            default `rate` the value is half of `initial` then, and a third after twice
            as many.
        rate: How much the divisor grows over `steps`. Greater than 0. Defaults to
            `1.0`.
        staircase: Whether to fall once at the end of each stretch of `steps`, instead
            of a little at each step. Defaults to `False`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Robbins and Monro, 1951, A Stochastic Approximation Method, Annals of
        Mathematical Statistics 22.

    Example:

    >>> schedule = kopt.schedules.InverseTime(1.2, steps=10)
    >>> [round(float(schedule(step)), 3) for step in (0, 10, 20, 30)]
    [1.2, 0.6, 0.4, 0.3]
    """

    lengths = ("steps",)

    def __init__(
        self,
        initial: float,
        steps: int | float,
        rate: float = 1.0,
        *,
        staircase: bool = False,
    ):
        self.initial = _checks.number("initial", initial, low=0.0)
        self.steps = length("steps", steps)
        self.rate = _checks.number("rate", rate, low=0.0, low_open=True)
        self.staircase = staircase

    def curve(self, step: Any) -> Any:
        if self.staircase:
            stretches, _ = _stretches.cycle(step, int(self.steps))
        else:
            stretches = step / self.steps
        return self.initial / (1.0 + self.rate * stretches)

    @property
    def peak(self) -> float:
        return self.initial

    @property
    def duration(self) -> int | None:
        return None

    @property
    def continuous(self) -> bool:
        return not self.staircase

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (
            cls(0.1, steps=30),
            cls(0.1, steps=30, rate=0.5, staircase=True),
        )
