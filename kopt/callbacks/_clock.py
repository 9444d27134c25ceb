"""How much of a budget of time is over."""

from __future__ import annotations

import collections
import time

# How many of the last steps say how long the next one takes: the shortest of them, for
# others were held up by something.
_RECENT = 5


class Clock:
    """Time since training began, measured against a budget.

    The budget ends with the last validation. So training has to end before it, by as
    long as validation took last time, which is known once there was one.

    Args:
        minutes: The budget.
    """

    def __init__(self, minutes: float) -> None:
        self._budget = 60.0 * minutes
        self._begin = time.perf_counter()
        self._validation = 0.0
        self._validation_begin = self._begin
        self._step_begin: float | None = None
        self._steps = 0
        self._lengths: collections.deque[float] = collections.deque(maxlen=_RECENT)
        self._progress = 0.0

    def progress(self) -> float:
        """How much of the time for training is over, from 0 to 1. It never falls."""
        elapsed = time.perf_counter() - self._begin
        present = min(1.0, elapsed / max(self._budget - self._validation, 1e-9))
        self._progress = max(self._progress, present)
        return self._progress

    def step_begins(self) -> bool:
        """Note that a step begins; whether it should be the last.

        It is if its end is nearer to the end of the time than that of the next one.
        """
        now = time.perf_counter()
        # The first one traces the training step.
        if self._step_begin is not None and self._steps > 1:
            self._lengths.append(now - self._step_begin)
        self._step_begin = now
        self._steps += 1
        left = self._budget - self._validation - (now - self._begin)
        return left <= 1.5 * min(self._lengths, default=0.0)

    def epoch_ends(self) -> bool:
        """Note that no step follows at once; whether the time is over."""
        self._step_begin = None
        return self.progress() >= 1.0

    def validation_begins(self) -> None:
        self._step_begin = None
        self._validation_begin = time.perf_counter()

    def validation_ends(self) -> None:
        self._validation = time.perf_counter() - self._validation_begin

    def get_state(self) -> dict[str, float]:
        """How much time is over, and how long validation took."""
        return {
            "elapsed": time.perf_counter() - self._begin,
            "validation": self._validation,
            "progress": self._progress,
        }

    def set_state(self, state: dict[str, float]) -> None:
        """Go on from there, now."""
        self._begin = time.perf_counter() - state["elapsed"]
        self._validation = state["validation"]
        self._progress = state["progress"]
        self._step_begin = None
