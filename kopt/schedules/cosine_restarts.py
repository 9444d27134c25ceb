from __future__ import annotations

import itertools
from typing import Any, Self

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _stretches, _ways
from kopt.schedules._base import Schedule, length


@register("schedules")
class CosineRestarts(Schedule):
    """Half cosine waves one after the other, each of which begins at the top again.

    Stochastic gradient descent with warm restarts. The model at the end of each cycle
    is a good one, so the run may be stopped there, and their ensemble is better still.
    All cycles together take `steps`, so that the last one ends with the run.

    Args:
        initial: The top of the first cycle. Greater than 0.
        steps: Length of all cycles together: a whole number of steps, or a float in
            (0, 1], a fraction of the run (see `kopt.callbacks.FitSchedule`).
        cycles: How many cycles. At least 1.
        final: The value that each cycle leads to. From 0 to the lowest top. Defaults to
            `0.0`.
        growth: How many times as long as the last each cycle is. At least 1. Lengths
            are rounded to whole steps. Defaults to `1.0`.
        decay: How many times as high as the last each top is. Greater than 0, at most
            1. Defaults to `1.0`.
        warmup: How much of each cycle is a linear warm-up from `final` to the top, as
            in `kopt.schedules.Warmup`: a whole number of steps, or a float from 0 to
            less than 1, a share of the cycle. Defaults to `0`.

    Raises:
        ValueError: If an argument is out of its range, or a cycle is no longer than its
            warm-up.

    Reference:
        Loshchilov and Hutter, 2016, SGDR: Stochastic Gradient Descent with Warm
        Restarts, [arXiv:1608.03983](https://arxiv.org/abs/1608.03983), equation 5;
        `growth` is there called T_mult.

    Example:

    >>> schedule = kopt.schedules.CosineRestarts(1.0, steps=6, cycles=2, growth=2.0)
    >>> [round(float(schedule(step)), 2) for step in range(7)]
    [1.0, 0.5, 1.0, 0.85, 0.5, 0.15, 0.0]
    """

    lengths = ("steps",)
    shares = ("warmup",)

    def __init__(
        self,
        initial: float,
        steps: int | float,
        cycles: int,
        final: float = 0.0,
        growth: float = 1.0,
        decay: float = 1.0,
        warmup: int | float = 0,
    ):
        self.initial = _checks.number("initial", initial, low=0.0, low_open=True)
        self.steps = length("steps", steps)
        self.cycles = _checks.integer("cycles", cycles, low=1)
        self.growth = _checks.number("growth", growth, low=1.0)
        self.decay = _checks.number("decay", decay, low=0.0, high=1.0, low_open=True)
        lowest = self.initial * self.decay ** (self.cycles - 1)
        self.final = _checks.number(
            "final",
            final,
            low=0.0,
            high=lowest,
            hint="The top of the last cycle is the highest that it may be.",
        )
        self.warmup = length("warmup", warmup, low=0)
        self._check_warmup()

    def _check_warmup(self) -> None:
        if isinstance(self.warmup, float) and self.warmup < 1.0:
            return
        if isinstance(self.warmup, int) and not isinstance(self.steps, int):
            return
        ends = self._ends() if isinstance(self.steps, int) else [1]
        if self.warmup and self.warmup >= ends[0]:
            raise ValueError(
                "`warmup` must be less than the first, shortest cycle, which has "
                f"{ends[0]} step(s). Received: warmup={self.warmup!r}. Give a share of "
                "each cycle: warmup=0.1."
            )

    def _ends(self) -> list[int]:
        """The step after the last one of each cycle."""
        sizes = [self.growth**cycle for cycle in range(self.cycles)]
        unit = int(self.steps) / sum(sizes)
        return [round(unit * behind) for behind in itertools.accumulate(sizes)]

    def curve(self, step: Any) -> Any:
        ends = self._ends()
        starts = [0, *ends[:-1]]
        sizes = [end - start for start, end in zip(starts, ends, strict=True)]
        warmups = [_stretches.share_in_steps(self.warmup, size) for size in sizes]
        tops = [self.initial * self.decay**cycle for cycle in range(self.cycles)]

        cycle = _stretches.place(step, starts[1:])
        local = step - _stretches.look_up(starts, cycle)
        size = _stretches.look_up(sizes, cycle)
        warmup = _stretches.look_up(warmups, cycle)
        top = _stretches.look_up(tops, cycle)

        remaining = (size - local) / ops.maximum(size - warmup, 1.0)
        falling = _ways.between(top, self.final, remaining, _ways.cosine)
        rising = _ways.between(
            top, self.final, (local + 1.0) / ops.maximum(warmup, 1.0)
        )
        return ops.where(local < warmup, rising, falling)

    @property
    def peak(self) -> float:
        return self.initial

    @property
    def duration(self) -> int | None:
        return self.steps if isinstance(self.steps, int) else None

    @property
    def continuous(self) -> bool:
        return self.cycles == 1

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (
            cls(0.1, steps=120, cycles=4),
            cls(0.1, steps=105, cycles=3, growth=2.0, decay=0.7),
            cls(0.1, steps=90, cycles=3, final=0.01, growth=1.5, warmup=0.2),
            cls(0.1, steps=40, cycles=1, warmup=5),
        )
