from __future__ import annotations

import math
from typing import Any, Self

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _stretches
from kopt.schedules._base import Schedule, length

_KINDS = ("triangular", "triangular2", "exp_range")


@register("schedules")
class Cyclical(Schedule):
    """Up and down between two values, again and again.

    Instead of the one best rate it takes a range, which `kopt.callbacks.LRFinder`
    shows, and visits all of it in each cycle.

    Args:
        minimum: The value at both ends of a cycle. At least 0.
        maximum: The value at the top of the first cycle. Greater than `minimum`.
        steps: Length of a cycle, up and down: a whole number of steps, or a float in
            (0, 1], a fraction of the run (see `kopt.callbacks.FitSchedule`). The paper
            finds 4 to 20 epochs good.
        kind: What becomes of the tops. `"triangular"`: all are `maximum`;
            `"triangular2"`: each is half as far above `minimum` as the last;
            `"exp_range"`: the distance from `minimum` shrinks by the factor `decay` at
            each step. Defaults to `"triangular"`.
        rise: How much of a cycle is the way up. Between 0 and 1. Defaults to `0.5`.
        decay: The factor of `"exp_range"`, which needs one, between 0 and 1; the other
            kinds have none. Defaults to `None`.

    Raises:
        ValueError: If an argument is out of its range, or `decay` and `kind` do not go
            together.

    Reference:
        Smith, 2015, Cyclical Learning Rates for Training Neural Networks,
        [arXiv:1506.01186](https://arxiv.org/abs/1506.01186), section 3.

    Example:

    >>> schedule = kopt.schedules.Cyclical(0.0, 1.0, steps=4, kind="triangular2")
    >>> [float(schedule(step)) for step in range(9)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25, 0.0]
    """

    lengths = ("steps",)

    def __init__(
        self,
        minimum: float,
        maximum: float,
        steps: int | float,
        kind: str = "triangular",
        rise: float = 0.5,
        decay: float | None = None,
    ):
        self.minimum = _checks.number("minimum", minimum, low=0.0)
        self.maximum = _checks.number(
            "maximum", maximum, low=self.minimum, low_open=True
        )
        self.steps = length("steps", steps)
        self.kind = _checks.one_of("kind", kind, _KINDS)
        self.rise = _checks.number(
            "rise", rise, low=0.0, high=1.0, low_open=True, high_open=True
        )
        if (decay is not None) != (kind == "exp_range"):
            raise ValueError(
                "`decay` is the factor of kind='exp_range', which needs one; the other "
                f"kinds have none. Received: kind={kind!r}, decay={decay!r}. Try "
                "kind='exp_range', decay=0.9999."
            )
        self.decay = decay
        if decay is not None:
            self.decay = _checks.number(
                "decay", decay, low=0.0, high=1.0, low_open=True, high_open=True
            )

    def curve(self, step: Any) -> Any:
        steps = int(self.steps)
        # A whole number of steps up, so that one of them is at the top.
        up = max(1, min(steps - 1, _stretches.share_in_steps(self.rise, steps)))
        cycles, local = _stretches.cycle(step, steps)
        falling = (steps - local) / max(steps - up, 1)
        height = ops.where(local < up, local / up, falling)
        if self.kind == "triangular2":
            height = height * ops.power(0.5, cycles)
        elif self.decay is not None:
            height = height * ops.exp(math.log(self.decay) * step)
        return self.minimum + (self.maximum - self.minimum) * height

    @property
    def counts_steps(self) -> bool:
        return super().counts_steps or self.kind == "exp_range"

    @property
    def peak(self) -> float:
        """The top of a cycle, which `"exp_range"` comes near to in the first one."""
        return self.maximum

    @property
    def duration(self) -> int | None:
        return None

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (
            cls(0.01, 0.1, steps=50),
            cls(0.0, 0.1, steps=40, kind="triangular2", rise=0.25),
            cls(0.01, 0.1, steps=30, kind="exp_range", decay=0.99),
        )
