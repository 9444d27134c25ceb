"""How much of a budget of time is over."""

from __future__ import annotations

import collections
import statistics
import time
from typing import Any

# How many of the last steps say how long the next one takes: the shortest of them, for
# others were held up by something.
_RECENT = 5
# The median of how many last pauses between epochs says how long the next one takes.
_RECENT_PAUSES = 5
# Going forward is a third of a training step, which goes backward at twice that cost.
_FORWARD = 1.0 / 3.0


class Clock:
    """Time since training began, measured against a budget.

    The budget ends with the last pause: what comes after the last step of an epoch,
    that is validation and what callbacks do then, such as writing a checkpoint. So
    training has to end before it, by as long as such a pause takes. That is measured;
    before the first one it is estimated from the steps.

    Args:
        minutes: The budget.
        validation_steps: How many steps on batches like those of training a validation
            has, if that is known.
    """

    def __init__(self, minutes: float, validation_steps: float = 0.0) -> None:
        self._budget = 60.0 * minutes
        self._validation_steps = validation_steps
        self._begin = time.perf_counter()
        self._step_begin: float | None = None
        self._pause_begin: float | None = None
        self._steps = 0
        self._lengths: collections.deque[float] = collections.deque(maxlen=_RECENT)
        self._first, self._total = 0.0, 0.0
        self._validates = validation_steps > 0.0
        #: With and without validation.
        self._pauses: dict[bool, list[float]] = {True: [], False: []}
        self._progress = 0.0

    def progress(self) -> float:
        """How much of the time for training is over, from 0 to 1. It never falls."""
        elapsed = time.perf_counter() - self._begin
        present = min(1.0, elapsed / max(self._budget - self._pause(), 1e-9))
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
            self._total += now - self._step_begin
        elif self._step_begin is not None:
            self._first = now - self._step_begin
        self._step_begin = now
        self._steps += 1
        left = self._budget - self._pause() - (now - self._begin)
        return left <= 1.5 * min(self._lengths, default=0.0)

    def epoch_begins(self, *, validates: bool) -> None:
        """Note that steps follow, and whether a validation comes after them."""
        if self._pause_begin is not None:
            length = time.perf_counter() - self._pause_begin
            known = self._pauses[self._validates]
            if self._validates and not known:
                # It has traced the step of a validation, which is done once.
                length = max(length - self._tracing(), length / 2.0)
            known.append(length)
        self._pause_begin = None
        self._validates = validates

    def pause_begins(self) -> None:
        """Note that no step follows at once."""
        self._step_begin = None
        if self._pause_begin is None:
            self._pause_begin = time.perf_counter()

    def epoch_ends(self) -> bool:
        """Note that no step follows at once; whether the time is over."""
        self.pause_begins()
        return self.progress() >= 1.0

    def get_state(self) -> dict[str, Any]:
        """How much time is over, and how long pauses took."""
        return {
            "elapsed": time.perf_counter() - self._begin,
            "pauses": [list(self._pauses[kind]) for kind in (True, False)],
            "progress": self._progress,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from there, now."""
        self._begin = time.perf_counter() - state["elapsed"]
        self._pauses = {
            kind: [float(length) for length in known]
            for kind, known in zip((True, False), state["pauses"], strict=True)
        }
        self._progress = state["progress"]
        self._step_begin = self._pause_begin = None

    def _pause(self) -> float:
        """How long the coming pause is likely to take."""
        known = self._pauses[self._validates]
        if known:
            # The first one is the least certain, and one may have been held up.
            return statistics.median(known[1:][-_RECENT_PAUSES:] or known)
        if not self._validates or self._steps < 3:
            return 0.0
        steps = self._validation_steps * _FORWARD * self._mean_step()
        return min(steps + self._tracing(), self._budget / 2.0)

    def _tracing(self) -> float:
        """How long the step of a validation takes to trace, which goes forward only."""
        return _FORWARD * max(0.0, self._first - self._mean_step())

    def _mean_step(self) -> float:
        return self._total / max(self._steps - 2, 1)
