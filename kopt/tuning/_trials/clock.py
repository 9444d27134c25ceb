"""How much of a budget is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._trials import records
from kopt.tuning._trials.configurations import best_first
from kopt.tuning.budget import Budget


class OutOfTime(Exception):
    """A trial that was cut at a batch's end."""

    def __init__(self, of_search: bool):
        super().__init__("the search's minutes" if of_search else "`trial_minutes`")
        self.of_search = of_search
        # The model as it was best until then, if an epoch had ended.
        self.outcome: Any = None


class TrialLost(Exception):
    """A trial that another worker called dead, and runs again."""


class Clock:
    """The time of a search and of the trial that runs.

    Args:
        budget: The budget of the whole search.
        spent: Seconds that the search has used before.
    """

    def __init__(self, budget: Budget, spent: float = 0.0):
        self._budget = budget
        self._started = time.monotonic() - spent
        self._trial_started = time.monotonic()
        self._trial_ended = self._trial_started
        self._is_in_trial = False
        # Seconds that are kept: for what follows a training, and for each refit.
        self._ending = 0.0
        self._refit = 0.0
        # Set by another thread, which has seen that the trial was called dead.
        self.is_lost = False
        # Called once in a trial, when it has begun to train.
        self.at_first_batch: Callable[[], None] | None = None

    @property
    def elapsed(self) -> float:
        """Seconds of the search until now, over all of its restarts."""
        return time.monotonic() - self._started

    def catch_up(self, spent: float) -> None:
        """Take over what another worker has noted, if its clock is ahead."""
        self._started -= max(spent - self.elapsed, 0.0)

    def start_trial(self) -> None:
        self._trial_started = time.monotonic()
        self._is_in_trial = True
        self.at_first_batch = None

    def end_trial(self) -> None:
        self._trial_ended = time.monotonic()
        self._is_in_trial = False

    def keep(self, refit: float) -> None:
        """Keep time for the end, now that all is done that follows a training.

        Args:
            refit: Seconds of one refit.
        """
        ending = time.monotonic() - self._trial_ended
        self._ending = max(self._ending, ending)
        self._refit = refit

    def of_refit(self, refits: int) -> Clock:
        """The clock of the first of some refits, as long as the search has time left.

        Any time for which none was kept, or when that is over.
        """
        minutes = self._budget.minutes
        if minutes is None or not self._budget.refits or self.elapsed >= 60 * minutes:
            return Clock(Budget(trials=1))
        share = (minutes - self.elapsed / 60) / refits
        return Clock(Budget(minutes=minutes, trial_minutes=share), self.elapsed)

    @property
    def trial_seconds(self) -> float:
        return time.monotonic() - self._trial_started

    @property
    def left(self) -> float:
        """Seconds that are left for trials; infinite without a limit."""
        if self._budget.minutes is None:
            return float("inf")
        # The trial that runs may be the one that is trained again.
        refit = max(self._refit, self.trial_seconds if self._is_in_trial else 0.0)
        kept = self._ending + (self._budget.refits or 0) * refit
        return 60 * self._budget.minutes - self.elapsed - kept

    def check(self) -> None:
        """As `check_time`, when a batch has ended."""
        if self.is_lost:
            raise TrialLost
        if self.at_first_batch is not None:
            call, self.at_first_batch = self.at_first_batch, None
            call()
        self.check_time()

    def check_time(self) -> None:
        """Raises `OutOfTime` where the search or the trial has used its time.

        And `TrialLost` where the trial is another worker's by now.
        """
        if self.is_lost:
            raise TrialLost
        if self.left <= 0:
            raise OutOfTime(of_search=True)
        limit = self._budget.trial_minutes
        if limit is not None and self.trial_seconds > 60 * limit:
            raise OutOfTime(of_search=False)


def seconds_of_best(study: optuna.Study) -> float:
    """Seconds of the longest trial of the best configuration; 0 where there is none."""
    runs = [run for one in best_first(study)[:1] for run in one.runs]
    return max((one.user_attrs.get(records.SECONDS, 0.0) for one in runs), default=0.0)


def counted(trials: Sequence[FrozenTrial]) -> int:
    """Trials that count for a budget: those that ended without a failure."""
    return sum(trial.state in records.COUNTED for trial in trials)


def epochs(trials: Sequence[FrozenTrial], of_running: int = 0) -> int:
    """Epochs that all trials have trained, those of failed ones included.

    Args:
        trials: The trials.
        of_running: Epochs that one which still runs counts for at least.
    """
    return sum(
        max(
            len(trial.intermediate_values),
            of_running if trial.state == TrialState.RUNNING else 0,
        )
        # Those of an earlier attempt are in that one, too.
        - trial.user_attrs.get(records.RESUMED_AFTER, 0)
        for trial in trials
    )


def spent(trials: Sequence[FrozenTrial]) -> float:
    """Seconds that a search has run, over all workers, as far as they have noted.

    Workers count on from what the study knows. Their clocks are never compared.
    """
    return max(map(_last_noted, trials), default=0.0)


def _last_noted(trial: FrozenTrial) -> float:
    attributes = trial.user_attrs
    end = attributes.get(records.STARTED, 0.0) + attributes.get(records.SECONDS, 0.0)
    return max(end, attributes.get(records.BEAT, 0.0))


def usual(trials: Sequence[FrozenTrial]) -> float:
    """Mean seconds of complete trials; 0 where there is none."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    seconds = [t.user_attrs.get(records.SECONDS, 0.0) for t in complete]
    return sum(seconds) / len(seconds) if seconds else 0.0


def shortest(trials: Sequence[FrozenTrial]) -> float:
    """Seconds of the shortest complete trial; 0 where there is none."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return min((t.user_attrs.get(records.SECONDS, 0.0) for t in complete), default=0.0)
