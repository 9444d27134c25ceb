from __future__ import annotations

from typing import Any, Self

from keras import ops

from kopt import _checks
from kopt._registry import register
from kopt.schedules import _stretches, _ways
from kopt.schedules._base import Schedule, length

_WAYS = {"1-sqrt": _ways.one_minus_root, "linear": _ways.linear, "cosine": _ways.cosine}


@register("schedules")
class WSD(Schedule):
    """Warm up, stay at the peak, and decay at the end.

    The stable part does not depend on the length of the run. So one long run serves
    several budgets: from any checkpoint of that part a short decay leads to a finished
    model (`decay_from`), while the run itself continues.

    Args:
        maximum: The value of the stable part. Greater than 0.
        steps: Length of all three parts: a whole number of steps, or a float in (0, 1],
            a fraction of the run (see `kopt.callbacks.FitSchedule`).
        warmup: Length of the linear warm-up, as in `kopt.schedules.Warmup`: a whole
            number of steps, or a float in [0, 1], a share of `steps`. Defaults to
            `0.05`.
        decay: Length of the decay: a whole number of steps, or a float in (0, 1], a
            share of `steps`. Defaults to `0.2`.
        kind: The way down. `"1-sqrt"`, steep at first, which the source finds best;
            `"linear"`; `"cosine"`. Defaults to `"1-sqrt"`.
        final: The value from step `steps` on. From 0 to `maximum`. Defaults to `0.0`.

    Raises:
        ValueError: If an argument is out of its range, or warm-up and decay together
            are longer than `steps`.

    References:
        Hu et al., 2024, MiniCPM: Unveiling the Potential of Small Language Models with
        Scalable Training Strategies, [arXiv:2404.06395](https://arxiv.org/abs/2404.06395);
        Hägele et al., 2024, Scaling Laws and Compute-Optimal Training Beyond Fixed
        Training Durations, [arXiv:2405.18392](https://arxiv.org/abs/2405.18392), for
        the way down.

    Example:

    >>> schedule = kopt.schedules.WSD(1.0, steps=100, warmup=4, decay=20)
    >>> [round(float(schedule(step)), 2) for step in (0, 3, 80, 85, 100)]
    [0.25, 1.0, 1.0, 0.5, 0.0]
    >>> early = schedule.decay_from(40, steps=20)
    >>> [round(float(early(step)), 2) for step in (0, 39, 40, 45, 60)]
    [0.25, 1.0, 1.0, 0.5, 0.0]
    """

    lengths = ("steps",)
    shares = ("warmup", "decay")

    def __init__(
        self,
        maximum: float,
        steps: int | float,
        warmup: int | float = 0.05,
        decay: int | float = 0.2,
        kind: str = "1-sqrt",
        final: float = 0.0,
    ):
        self.maximum = _checks.number("maximum", maximum, low=0.0, low_open=True)
        self.steps = length("steps", steps)
        self.warmup = length("warmup", warmup, low=0)
        self.decay = length("decay", decay)
        self.kind = _checks.one_of("kind", kind, tuple(_WAYS))
        self.final = _checks.number("final", final, low=0.0, high=self.maximum)
        _stretches.check_room(self.steps, warmup=self.warmup, decay=self.decay)

    def decay_from(self, step: int, steps: int) -> WSD:
        """The same run with its decay at another place, for a checkpoint of its own.

        Load the weights and the optimizer as they were after `step` steps, and train on
        for `steps` with what this returns; `FitSchedule(..., total_steps=step + steps)`
        takes its place in the schedule from the optimizer.

        Args:
            step: The first step of the decay. Within the stable part.
            steps: Length of the decay. At least 1.

        Raises:
            ValueError: If `step` is in the warm-up or after the beginning of the decay,
                where the weights are not those of the stable part; or if the schedule
                counts in fractions of a run.
        """
        if not isinstance(self.steps, int):
            raise ValueError(
                f"{self} counts in fractions of the run. Say first how long the run is "
                "that the checkpoint is of: `schedule.bind(total_steps)`."
            )
        step = _checks.integer("step", step, low=1)
        steps = _checks.integer("steps", steps, low=1)
        warmup, end = self._warmup(), self.steps - self._decay()
        if not warmup <= step <= end:
            raise ValueError(
                f"`step` must be in the stable part, from {warmup} to {end}. Received: "
                f"step={step}. Take a checkpoint of that part."
            )
        return type(self)(
            self.maximum, step + steps, warmup, steps, self.kind, final=self.final
        )

    def _warmup(self) -> int:
        return _stretches.share_in_steps(self.warmup, int(self.steps))

    def _decay(self) -> int:
        decay = _stretches.share_in_steps(self.decay, int(self.steps), low=1)
        return max(1, min(decay, int(self.steps) - self._warmup()))

    def curve(self, step: Any) -> Any:
        warmup, decay = self._warmup(), self._decay()
        rising = self.maximum * ((step + 1.0) / max(warmup, 1))
        remaining = (int(self.steps) - step) / decay
        falling = _ways.between(self.maximum, self.final, remaining, _WAYS[self.kind])
        return ops.where(step < warmup, ops.minimum(rising, self.maximum), falling)

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
            cls(0.1, steps=100, warmup=10, decay=40, kind="linear", final=0.02),
            cls(0.1, steps=100, warmup=0.1, decay=0.9, kind="cosine"),
        )
