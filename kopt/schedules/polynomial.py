from __future__ import annotations

from typing import Any, Self

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _ways
from kopt.schedules._base import Schedule, length


@register("schedules")
class Polynomial(Schedule):
    """From `initial` to `final` along a power of what is left of the way.

    At a step t of T the difference from `final` is `(1 - t / T) ** power` of what it
    was. A power above 1 falls fast at first and settles long at low values; one below 1
    stays high and falls at the end, like the "poly" policy of semantic segmentation,
    which takes 0.9. A power of 1 is `kopt.schedules.Linear`.

    Args:
        initial: The value at step 0. At least 0.
        steps: How long the way from `initial` to `final` takes: a whole number of
            steps, or a float in (0, 1], a fraction of the run (see
            `kopt.callbacks.FitSchedule`).
        power: The exponent. Greater than 0.
        final: The value from step `steps` on. At least 0. Defaults to `0.0`.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Chen et al., 2016, DeepLab: Semantic Image Segmentation with Deep Convolutional
        Nets, Atrous Convolution, and Fully Connected CRFs,
        [arXiv:1606.00915](https://arxiv.org/abs/1606.00915), section 4.1.

    Example:

    >>> schedule = kopt.schedules.Polynomial(1.0, steps=4, power=2)
    >>> [float(schedule(step)) for step in range(6)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """

    lengths = ("steps",)

    def __init__(
        self, initial: float, steps: int | float, power: float, final: float = 0.0
    ):
        self.initial = _checks.number("initial", initial, low=0.0)
        self.steps = length("steps", steps)
        self.power = _checks.number("power", power, low=0.0, low_open=True)
        self.final = _checks.number("final", final, low=0.0)

    def curve(self, step: Any) -> Any:
        remaining = (self.steps - step) / self.steps
        return _ways.between(self.initial, self.final, remaining, self._way)

    def _way(self, remaining: Any) -> Any:
        return ops.power(remaining, self.power)

    @property
    def peak(self) -> float:
        return max(self.initial, self.final)

    @property
    def duration(self) -> int | None:
        return self.steps if isinstance(self.steps, int) else None

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (
            cls(1e-3, steps=100, power=2.0),
            cls(1e-3, steps=100, power=0.5),
            cls(0.04, steps=60, power=3.0, final=0.4),
        )
