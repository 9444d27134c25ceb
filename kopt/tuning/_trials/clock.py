"""How much of a budget is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._trials import records
from kopt.tuning.budget import Budget


class OutOfTime(Exception):
    """A trial that was cut at a batch's end."""

    def __init__(self, of_search: bool):
        super().__init__("the search's minutes" if of_search else "`trial_minutes`")
        self.of_search = of_search
        # The model as it was best until then, if an epoch had ended.
        self.outcome: Any = None


class Clock:
    """The time of a search and of the trial that runs.

    Args:
        budget: The budget of the whole search.
        spent: Seconds that earlier runs of the search have used.
    """

    def __init__(self, budget: Budget, spent: float = 0.0):
        self._budget = budget
        self._started = time.monotonic() - spent
        self._trial_started = time.monotonic()

    def start_trial(self) -> None:
        self._trial_started = time.monotonic()

    @property
    def trial_seconds(self) -> float:
        return time.monotonic() - self._trial_started

    @property
    def left(self) -> float:
        """Seconds that are left of the search; infinite without a limit."""
        if self._budget.minutes is None:
            return float("inf")
        return 60 * self._budget.minutes - (time.monotonic() - self._started)

    def check(self) -> None:
        """Raises `OutOfTime` where the search or the trial has used its time."""
        if self.left <= 0:
            raise OutOfTime(of_search=True)
        limit = self._budget.trial_minutes
        if limit is not None and self.trial_seconds > 60 * limit:
            raise OutOfTime(of_search=False)


def counted(trials: Sequence[FrozenTrial]) -> int:
    """Trials that count for a budget: those that ended without a failure."""
    return sum(trial.state in records.COUNTED for trial in trials)


def epochs(trials: Sequence[FrozenTrial]) -> int:
    """Epochs that all trials have trained, those of failed ones included."""
    return sum(
        len(trial.intermediate_values)
        # Those of an earlier attempt are in that one, too.
        - trial.user_attrs.get(records.RESUMED_AFTER, 0)
        for trial in trials
    )


def seconds(trials: Sequence[FrozenTrial]) -> float:
    """Seconds that all trials have taken, as far as each has noted."""
    return sum(trial.user_attrs.get(records.SECONDS, 0.0) for trial in trials)


def shortest(trials: Sequence[FrozenTrial]) -> float:
    """Seconds of the shortest complete trial; 0 where there is none."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return min((t.user_attrs.get(records.SECONDS, 0.0) for t in complete), default=0.0)
