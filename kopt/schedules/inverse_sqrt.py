from __future__ import annotations

from typing import Any, Self

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _stretches
from kopt.schedules._base import Schedule, length


@register("schedules")
class InverseSqrt(Schedule):
    """Warm up to a peak, then decay with the inverse square root of the step.

    The schedule of the first transformers ("Noam"). It does not depend on the length of
    the run, which may go on for as long as it pays; a cool-down ends it.

    Counted from 1, step n of the warm-up over W steps has n / W of the peak, and each
    after it sqrt(W / n).

    Args:
        maximum: The value at the end of the warm-up. Greater than 0. The paper's is
            `(model_width * warmup) ** -0.5`.
        warmup: Length of the linear warm-up: a whole number of steps, or a float in
            (0, 1], a fraction of the run (see `kopt.callbacks.FitSchedule`). Defaults
            to `4000`, the paper's.
        steps: The step at which the cool-down ends: a whole number or a fraction of the
            run. Only a cool-down needs it. Defaults to `None`.
        cooldown: Length of a linear way to zero at the end: a whole number of steps, or
            a float in [0, 1], a share of `steps`. Defaults to `0`.

    Raises:
        ValueError: If an argument is out of its range, if there is a cool-down without
            `steps`, or if warm-up and cool-down together are longer than `steps`.

    References:
        Vaswani et al., 2017, Attention Is All You Need,
        [arXiv:1706.03762](https://arxiv.org/abs/1706.03762), equation 3; Zhai et al.,
        2021, Scaling Vision Transformers,
        [arXiv:2106.04560](https://arxiv.org/abs/2106.04560), for the cool-down.

    Example:

    >>> schedule = kopt.schedules.InverseSqrt(1.0, warmup=4)
    >>> [round(float(schedule(step)), 2) for step in (0, 1, 3, 15, 99)]
    [0.25, 0.5, 1.0, 0.5, 0.2]
    """

    lengths = ("warmup", "steps")
    shares = ("cooldown",)

    def __init__(
        self,
        maximum: float,
        warmup: int | float = 4000,
        steps: int | float | None = None,
        cooldown: int | float = 0,
    ):
        self.maximum = _checks.number("maximum", maximum, low=0.0, low_open=True)
        self.warmup = length("warmup", warmup)
        self.steps = None if steps is None else length("steps", steps)
        self.cooldown = length("cooldown", cooldown, low=0)
        if self.steps is not None and self.cooldown:
            _stretches.check_room(
                self.steps, cooldown=self.cooldown, warmup=self._share_of_steps()
            )
        elif self.cooldown:
            raise ValueError(
                "`steps` must be given with a cool-down, which ends there. Received: "
                f"steps=None, cooldown={cooldown!r}. Write steps=1.0 for the end of "
                "the run."
            )

    def _share_of_steps(self) -> int | float:
        """The warm-up as a share of `steps`, where both are fractions of the run."""
        if isinstance(self.warmup, float) and isinstance(self.steps, float):
            return self.warmup / self.steps
        return self.warmup if isinstance(self.warmup, int) else 0

    def curve(self, step: Any) -> Any:
        count = step + 1.0
        # peak * min(n / W, sqrt(W / n))
        rising = count / self.warmup
        value = self.maximum * ops.minimum(rising, ops.sqrt(self.warmup / count))
        if not self.cooldown or self.steps is None:
            return value
        cooldown = _stretches.share_in_steps(self.cooldown, int(self.steps), low=1)
        return value * ops.clip((int(self.steps) - step) / cooldown, 0.0, 1.0)

    @property
    def peak(self) -> float:
        return self.maximum

    @property
    def duration(self) -> int | None:
        return self.steps if self.cooldown and isinstance(self.steps, int) else None

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (
            cls(0.1, warmup=20),
            cls(0.1, warmup=10, steps=100, cooldown=30),
            cls(0.1, warmup=1, steps=50, cooldown=0.5),
        )
