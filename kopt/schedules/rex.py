from __future__ import annotations

from typing import Any, Self

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _ways
from kopt.schedules._base import Schedule, length


@register("schedules")
class REX(Schedule):
    """The reflected exponential: above a straight line, and falling ever faster.

    Made for runs on a budget: it keeps the rate higher than `kopt.schedules.Linear` for
    most of the run, and still ends at `final`. Of what is left of the way, r, it has
    r / (1/2 + r/2).

    Args:
        initial: The value at step 0. At least 0.
        steps: How long the way from `initial` to `final` takes: a whole number of
            steps, or a float in (0, 1], a fraction of the run (see
            `kopt.callbacks.FitSchedule`).
        final: The value from step `steps` on. At least 0. Defaults to `0.0`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Chen, Wolfe and Kyrillidis, 2021, REX: Revisiting Budgeted Training with an
        Improved Schedule, [arXiv:2107.04197](https://arxiv.org/abs/2107.04197).

    Example:

    >>> schedule = kopt.schedules.REX(0.3, steps=4)
    >>> [round(float(schedule(step)), 3) for step in range(6)]
    [0.3, 0.257, 0.2, 0.12, 0.0, 0.0]
    """

    lengths = ("steps",)

    def __init__(self, initial: float, steps: int | float, final: float = 0.0):
        self.initial = _checks.number("initial", initial, low=0.0)
        self.steps = length("steps", steps)
        self.final = _checks.number("final", final, low=0.0)

    def curve(self, step: Any) -> Any:
        remaining = (self.steps - step) / self.steps
        return _ways.between(self.initial, self.final, remaining, _ways.rex)

    @property
    def peak(self) -> float:
        return max(self.initial, self.final)

    @property
    def duration(self) -> int | None:
        return self.steps if isinstance(self.steps, int) else None

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(1e-3, steps=100), cls(0.5, steps=60, final=0.1)
