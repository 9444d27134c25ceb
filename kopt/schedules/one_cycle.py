from __future__ import annotations

from typing import Any, Self

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _stretches, _ways
from kopt.schedules._base import Schedule, length

_WAYS = {"cosine": _ways.cosine, "linear": _ways.linear}


@register("schedules")
class OneCycle(Schedule):
    """Up to a high peak and down again, far below where it began.

    The 1cycle policy, behind super-convergence: a long way up works as a warm-up, the
    high rate in the middle regularizes, and the end settles. The peak may be several
    times the rate that would do for a constant one; `kopt.callbacks.LRFinder` finds it.

    Args:
        maximum: The highest value. Greater than 0.
        steps: Length of the cycle: a whole number of steps, or a float in (0, 1], a
            fraction of the run (see `kopt.callbacks.FitSchedule`).
        rise: How much of the cycle is the way up. Between 0 and 1, at most 0.5 with
            `three_phases`. Defaults to `0.3`.
        initial_divisor: The value at step 0 is `maximum` divided by this. At least 1.
            Defaults to `25.0`.
        final_divisor: The value from step `steps` on is that of step 0 divided by this.
            At least 1. Defaults to `1e4`.
        kind: The way between these: `"cosine"` or `"linear"`. Defaults to `"cosine"`.
        three_phases: Whether the way down is as long as that up and ends where that
            began, as in the paper; the rest of the cycle then leads to the final value.
            Defaults to `False`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Smith and Topin, 2017, Super-Convergence: Very Fast Training of Neural Networks
        Using Large Learning Rates, [arXiv:1708.07120](https://arxiv.org/abs/1708.07120),
        section 3. The divisors, and cosines in place of lines, are those of torch.

    Example:

    >>> schedule = kopt.schedules.OneCycle(1.0, steps=1000)
    >>> [round(float(schedule(step)), 4) for step in (0, 150, 300, 650, 1000)]
    [0.04, 0.52, 1.0, 0.5, 0.0]
    """

    lengths = ("steps",)

    def __init__(
        self,
        maximum: float,
        steps: int | float,
        rise: float = 0.3,
        initial_divisor: float = 25.0,
        final_divisor: float = 1e4,
        kind: str = "cosine",
        *,
        three_phases: bool = False,
    ):
        self.maximum = _checks.number("maximum", maximum, low=0.0, low_open=True)
        self.steps = length("steps", steps)
        self.rise = _checks.number(
            "rise",
            rise,
            low=0.0,
            high=0.5 if three_phases else 1.0,
            low_open=True,
            high_open=not three_phases,
        )
        self.initial_divisor = _checks.number(
            "initial_divisor", initial_divisor, low=1.0
        )
        self.final_divisor = _checks.number("final_divisor", final_divisor, low=1.0)
        self.kind = _checks.one_of("kind", kind, tuple(_WAYS))
        self.three_phases = three_phases

    def curve(self, step: Any) -> Any:
        way = _WAYS[self.kind]
        initial = self.maximum / self.initial_divisor
        final = initial / self.final_divisor
        end = int(self.steps)
        top = _stretches.share_in_steps(self.rise, end)
        down = min(2 * top, end) if self.three_phases else end

        def part(first: float, last: float, begin: int, end: int) -> Any:
            return _ways.along(step, first, last, begin=begin, end=end, way=way)

        falling = part(self.maximum, initial if self.three_phases else final, top, down)
        value = ops.where(step < top, part(initial, self.maximum, 0, top), falling)
        if not self.three_phases:
            return value
        return ops.where(step < down, value, part(initial, final, down, end))

    @property
    def peak(self) -> float:
        return self.maximum

    @property
    def duration(self) -> int | None:
        return self.steps if isinstance(self.steps, int) else None

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (
            cls(0.1, steps=100),
            cls(0.1, steps=100, rise=0.4, final_divisor=100.0, three_phases=True),
            cls(0.3, steps=60, rise=0.5, initial_divisor=10.0, kind="linear"),
        )
