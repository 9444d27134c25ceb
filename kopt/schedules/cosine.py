from __future__ import annotations

from typing import Any, Self

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _ways
from kopt.schedules._base import Schedule, length


@register("schedules")
class Cosine(Schedule):
    """Half a cosine wave from `initial` to `final`, which is then held.

    The usual decay for a run of known length: slow at both ends, so that the high rate
    is kept for long and the last steps settle. It may also rise, which suits weight
    decay or a dropout rate. The value at `steps` is exactly `final`; the last step of a
    run of that length is the one before, so that no update is made at rate zero.

    Args:
        initial: The value at step 0. At least 0.
        steps: How long the way from `initial` to `final` takes: a whole number of
            steps, or a float in (0, 1], a fraction of the run (see
            `kopt.callbacks.FitSchedule`). Inside `kopt.schedules.Warmup` the run is
            what is left of it after the warm-up.
        final: The value from step `steps` on. At least 0. Defaults to `0.0`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Loshchilov and Hutter, 2016, SGDR: Stochastic Gradient Descent with Warm
        Restarts, [arXiv:1608.03983](https://arxiv.org/abs/1608.03983), equation 5,
        without the restarts.

    Example:

    >>> schedule = kopt.schedules.Cosine(1e-3, steps=1000, final=1e-4)
    >>> [round(float(schedule(step)), 6) for step in (0, 250, 500, 1000, 5000)]
    [0.001, 0.000868, 0.00055, 0.0001, 0.0001]
    >>> optimizer = keras.optimizers.SGD(learning_rate=schedule)
    """

    lengths = ("steps",)

    def __init__(self, initial: float, steps: int | float, final: float = 0.0):
        self.initial = _checks.number("initial", initial, low=0.0)
        self.steps = length("steps", steps)
        self.final = _checks.number("final", final, low=0.0)

    def curve(self, step: Any) -> Any:
        # final + (initial - final) (1 + cos(pi t / T)) / 2
        return _ways.along(
            step, self.initial, self.final, end=int(self.steps), way=_ways.cosine
        )

    @property
    def peak(self) -> float:
        return max(self.initial, self.final)

    @property
    def duration(self) -> int | None:
        return self.steps if isinstance(self.steps, int) else None

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(1e-3, steps=100), cls(0.5, 1), cls(0.04, steps=60, final=0.4)
