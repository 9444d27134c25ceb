from __future__ import annotations

from typing import Any, Self

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _ways
from kopt.schedules._base import Schedule, length


@register("schedules")
class Linear(Schedule):
    """A straight line from `initial` to `final`, which is then held.

    Down to zero it is the best choice for the last iterate in the worst case, and over
    many tasks as good as any other. Like in `kopt.schedules.Cosine`, the value at
    `steps` is exactly `final`, and the last step of a run of that length is the one
    before.

    Args:
        initial: The value at step 0. At least 0.
        steps: How long the way from `initial` to `final` takes: a whole number of
            steps, or a float in (0, 1], a fraction of the run (see
            `kopt.callbacks.FitSchedule`).
        final: The value from step `steps` on. At least 0. Defaults to `0.0`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Defazio, Cutkosky, Mehta and Mishchenko, 2023, When, Why and How Much? Adaptive
        Learning Rate Scheduling by Refinement,
        [arXiv:2310.07831](https://arxiv.org/abs/2310.07831).

    Example:

    >>> schedule = kopt.schedules.Linear(1.0, steps=4)
    >>> [float(schedule(step)) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    lengths = ("steps",)

    def __init__(self, initial: float, steps: int | float, final: float = 0.0):
        self.initial = _checks.number("initial", initial, low=0.0)
        self.steps = length("steps", steps)
        self.final = _checks.number("final", final, low=0.0)

    def curve(self, step: Any) -> Any:
        return _ways.along(step, self.initial, self.final, end=int(self.steps))

    @property
    def peak(self) -> float:
        return max(self.initial, self.final)

    @property
    def duration(self) -> int | None:
        return self.steps if isinstance(self.steps, int) else None

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(1e-3, steps=100), cls(0.5, 1), cls(0.04, steps=60, final=0.4)
