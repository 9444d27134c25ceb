from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _inner
from kopt.schedules._base import Schedule, in_steps, length
from kopt.schedules.cosine import Cosine


@register("schedules")
class Warmup(Schedule):
    """Rise from `start` to a schedule's first value, then follow the schedule.

    The first updates of a run are its least reliable: weights are random, Adam's second
    moments are estimated from a handful of gradients. A short warm-up keeps them small,
    which is what large batches, transformers and high learning rates need.

    Step t of a warm-up over T steps is `(t + 1) / T` of the way. So the first update is
    already larger than `start`, none is thrown away at rate zero, and step T - 1 is at
    the top. The wrapped schedule's own clock starts after the warm-up, at step T: its
    first value is the top, and `Warmup(Cosine(1e-3, 900), 100)` ends at step 1000.

    Args:
        schedule: What follows: a float, which is then held, a kopt schedule, or any
            `keras.optimizers.schedules.LearningRateSchedule`.
        steps: Length of the warm-up: a whole number of steps, or a float in [0, 1], a
            fraction of the run (see `kopt.callbacks.FitSchedule`). Fractions inside
            `schedule` are then fractions of what is left of the run, so that
            `Warmup(Cosine(1e-3, steps=1.0), steps=0.05)` ends with the run. `0` is no
            warm-up.
        kind: The way up. `"linear"`; `"cosine"`, half a wave, smooth at both ends;
            `"exponential"`, the same factor each step, from a `start` above 0.
            Defaults to `"linear"`.
        start: The value before the first step. At least 0. Defaults to `0.0`.

    Raises:
        ValueError: If an argument is out of its range, or if `kind="exponential"` has
            nothing to multiply because `start` is 0.

    Reference:
        Goyal et al., 2017, Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour,
        [arXiv:1706.02677](https://arxiv.org/abs/1706.02677), section 2.2.

    Example:

    >>> schedule = kopt.schedules.Warmup(0.1, steps=4)
    >>> [round(float(schedule(step)), 3) for step in (0, 1, 2, 3, 4, 1000)]
    [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]
    >>> schedule = kopt.schedules.Warmup(kopt.schedules.Cosine(0.1, 4), steps=2)
    >>> [round(float(schedule(step)), 3) for step in range(7)]
    [0.05, 0.1, 0.1, 0.085, 0.05, 0.015, 0.0]
    """

    lengths = ("steps",)

    def __init__(
        self,
        schedule: _inner.Inner,
        steps: int | float,
        kind: str = "linear",
        start: float = 0.0,
    ):
        self.schedule = _inner.checked("schedule", schedule)
        self.steps = length("steps", steps, low=0)
        self.kind = _checks.one_of("kind", kind, tuple(_WAYS_UP))
        self.start = _checks.number("start", start, low=0.0)
        if kind == "exponential" and self.start == 0.0:
            raise ValueError(
                "`start` must be greater than 0 for kind='exponential', which "
                "multiplies it by the same factor each step. Received: start=0. Try a "
                "hundredth of the top, or kind='linear'."
            )

    def curve(self, step: Any) -> Any:
        # The wrapped schedule stands at its first value, the top, all through the
        # warm-up, so that one evaluation serves both sides.
        after = ops.maximum(step - self.steps, 0.0)
        following = _inner.curve_of(self.schedule, after)
        progress = ops.clip((step + 1.0) / max(self.steps, 1), 0.0, 1.0)
        rising = _WAYS_UP[self.kind](self.start, following, progress)
        return ops.where(step < self.steps, rising, following)

    @property
    def bound(self) -> bool:
        return super().bound and _inner.is_bound(self.schedule)

    @property
    def counts_steps(self) -> bool:
        return super().counts_steps or _inner.counts_steps(self.schedule)

    def bind(self, total_steps: int) -> Self:
        steps = in_steps(self.steps, total_steps, low=0)
        schedule = _inner.bind(self.schedule, total_steps - steps)
        return type(self)(schedule, steps, self.kind, self.start)

    @property
    def peak(self) -> float:
        """The wrapped schedule's peak; of one of Keras's, the value at its step 0."""
        return _inner.peak_of(self.schedule)

    @property
    def duration(self) -> int | None:
        after = _inner.duration_of(self.schedule)
        if after is None or not isinstance(self.steps, int):
            return None
        return self.steps + after

    @property
    def continuous(self) -> bool:
        return _inner.is_continuous(self.schedule)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        cosine = Cosine(0.1, steps=30, final=0.01)
        return (
            cls(0.1, steps=20),
            cls(cosine, steps=0),
            cls(cosine, steps=20, start=0.02),
            cls(cosine, steps=20, kind="cosine"),
            cls(cls(cosine, steps=10), steps=5, kind="exponential", start=1e-4),
        )


def _linear(start: float, top: Any, progress: Any) -> Any:
    return start * (1.0 - progress) + top * progress


def _cosine(start: float, top: Any, progress: Any) -> Any:
    return _linear(start, top, ops.square(ops.sin(0.5 * math.pi * progress)))


def _exponential(start: float, top: Any, progress: Any) -> Any:
    return start * ops.power(top / start, progress)


_WAYS_UP: dict[str, Callable[[float, Any, Any], Any]] = {
    "linear": _linear,
    "cosine": _cosine,
    "exponential": _exponential,
}
