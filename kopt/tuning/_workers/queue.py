"""Which trial a worker runs next."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from kopt._keras.optuna_trials import id_in_storage
from kopt.tuning._trials import clock as spending
from kopt.tuning._trials import records
from kopt.tuning._trials.clock import Clock
from kopt.tuning._trials.confirmation import Confirmation
from kopt.tuning._workers.folder import Worker
from kopt.tuning._workers.patient import PatientStorage
from kopt.tuning._workers.pulse import Pulse
from kopt.tuning.budget import Budget

_DIED = "its worker ended, or gave no sign of life"
_SURPLUS = "it was one more than the budget has"
# Deaths at one place without an epoch in between, after which it is its own fault.
_DEATHS = 5
_FAILED, _RUNNING, _WAITING = TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING


class Queue:
    """The trials of a study, handed out to one of its workers.

    The storage gives each trial a number, and no two trials the same. All that workers
    have to agree about follows from these numbers, without a lock: a trial belongs to
    the budget if few enough unfailed ones have a lower number, and of two repetitions
    of one trial the one with the lower number stays. A worker that finds its own trial
    not to belong takes it back.

    A trial of the search belongs only if the repeats that confirm its winner find room
    behind it. They begin when no trial of the search runs any more.

    Args:
        study: The study.
        storage: Its storage.
        worker: The worker.
        pulse: Its sign of life.
        clock: The clock of the search.
        budget: The budget of the search.
        epochs: Epochs of a trial that is not stopped.
        marks: Further attributes that a trial carries from the beginning.
        confirmation: Which repeats are still to be made.
        say: Takes a line of text for the log of the search.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: PatientStorage,
        worker: Worker,
        pulse: Pulse,
        clock: Clock,
        budget: Budget,
        epochs: int,
        marks: Mapping[str, Any],
        confirmation: Confirmation,
        say: Callable[[str], None],
    ):
        self._study = study
        self._storage = storage
        self._worker = worker
        self._pulse = pulse
        self._clock = clock
        self._budget = budget
        self._epochs = epochs
        self._marks = marks
        self._confirmation = confirmation
        self._say = say
        self._has_said_folders = False
        storage.attributes_of_new = self.attributes

    def attributes(self) -> dict[str, Any]:
        """What a trial carries from its first moment on."""
        return {
            records.FOLDER: self._worker.mark,
            records.PLACE: self._worker.place,
            records.STARTED: self._clock.elapsed,
            **self._marks,
            # The last one: whoever knows the worker knows where to look for it.
            records.WORKER: self._worker.name,
        }

    def next(self, is_exhausted: bool = False) -> optuna.Trial | None:
        """A trial for this worker, or nothing at the moment.

        Args:
            is_exhausted: Whether the search has nothing new to try.
        """
        trials = self._study.get_trials(deepcopy=False)
        if not is_exhausted and self._has_room(trials, is_repeat=False):
            self._line_up(trials, is_repeat=False)
        elif not self._line_up_repeat(trials):
            return None
        trial = self._study.ask()
        if records.WORKER not in trial.user_attrs:  # It had been waiting.
            for key, value in self.attributes().items():
                trial.set_user_attr(key, value)
        trials = self._study.get_trials(deepcopy=False)
        own = trials[trial.number]
        if _is_repeated_twice(trials, own):
            self._take_back(own, records.WITHDRAWN, True)
            return None
        is_new = not records.is_repeat(own) and records.RETRY_OF not in own.user_attrs
        if (is_exhausted and is_new) or not self._belongs(trials, own):
            self._take_back(own, records.CUT_OFF, _SURPLUS)
            return None
        return trial

    def tell(
        self, trial: optuna.Trial, state: TrialState, score: float | None = None
    ) -> bool:
        """Tell how a trial ended. Returns whether it still was this worker's."""
        try:
            told = self._study.tell(trial, score, state=state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return False
        return told.state == state

    def bury(self) -> None:
        """End trials whose workers are dead, so that they run again."""
        trials = self._study.get_trials(deepcopy=False)
        self._clock.catch_up(spending.spent(trials))
        if not self._has_said_folders:
            self._compare_folders(trials)
        running = [trial for trial in trials if trial.state == _RUNNING]
        self._pulse.watch.look(running)
        for trial in running:
            if self._is_dead(trial):
                key, value = records.CUT_OFF, _DIED
                if _is_deadly(trials, trial):
                    key, value = records.FAILURE, "died"
                    self._write(trial, records.REASON, f"{_DEATHS} times {_DIED}.")
                self._take_back(trial, key, value)

    def _compare_folders(self, trials: Sequence[FrozenTrial]) -> None:
        """Say it once if workers do not see the same folder."""
        own = self._worker.mark
        for trial in trials:
            if trial.user_attrs.get(records.FOLDER, own) != own:
                self._say(
                    "Workers have not the same folder: models and what is needed to go "
                    "on within a trial stay where they were made. This worker has "
                    f"{self._worker.place}, that of trial {trial.number} "
                    f"{trial.user_attrs.get(records.PLACE)}. Give all of them one "
                    "`directory` that each sees, or take `refit()` in the end."
                )
                self._has_said_folders = True
                return

    def _is_dead(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(records.WORKER)
        if owner == self._worker.name or self._pulse.watch.is_dead(trial):
            return True  # This worker runs none while it looks for one.
        if owner is None:
            # Killed between taking a trial from the queue and signing it.
            return self._storage.is_private and self._worker.is_alone()
        is_here = trial.user_attrs.get(records.FOLDER) == self._worker.mark
        return is_here and self._worker.has_ended(owner, self._storage.is_private)

    def _line_up_repeat(self, trials: Sequence[FrozenTrial]) -> bool:
        """Let the next repeat of a leading configuration wait, if it is its turn."""
        running = [trial for trial in trials if trial.state == _RUNNING]
        missing = self._confirmation.missing(trials)
        if not missing or not all(map(records.is_repeat, running)):
            return False
        if not self._has_room(trials, is_repeat=True):
            return False
        if any(trial.state == _WAITING for trial in trials):
            return True  # Its worker was killed before it could take it.
        if self._line_up(trials, is_repeat=True):
            return True
        first, place = missing[0]
        if place == 1:
            self._say(
                f"Confirmation: {len(missing)} trials repeat the leading "
                "configurations with fresh seeds."
            )
        self._study.enqueue_trial(first.params, user_attrs=missing[0].attributes)
        return True

    def _line_up(self, trials: Sequence[FrozenTrial], is_repeat: bool) -> bool:
        """Let the first trial that was cut off wait for a worker again."""
        for number, attempts in records.attempts(trials).items():
            if not all(map(records.is_cut_off, attempts)):
                continue
            last = attempts[-1]
            if is_repeat and not records.is_repeat(last):
                continue
            # What was asked for already is drawn again, by the same seed.
            attributes = {records.RETRY_OF: number}
            for key in (records.GIVEN, records.REPEAT_OF, records.REPEAT):
                if key in last.user_attrs:
                    attributes[key] = last.user_attrs[key]
            self._study.enqueue_trial(
                last.system_attrs.get("fixed_params", {}), user_attrs=attributes
            )
            why = last.user_attrs[records.CUT_OFF]
            self._say(f"Trial {last.number} was cut off ({why}) and runs again.")
            return True
        return False

    def _has_room(self, trials: Sequence[FrozenTrial], is_repeat: bool) -> bool:
        """Whether a further trial would belong to the budget."""
        unfailed = sum(t.state in (*records.COUNTED, _RUNNING) for t in trials)
        kept = 0 if is_repeat else len(self._confirmation.missing(trials))
        limit = self._budget.trials
        if limit is not None and unfailed + kept >= limit:
            return False
        return self._has_epochs(trials, kept) and self._has_time(trials, kept)

    def _belongs(self, trials: Sequence[FrozenTrial], own: FrozenTrial) -> bool:
        """Whether a trial of this worker belongs to the budget."""
        before = [
            trial
            for trial in trials
            if trial.state in records.COUNTED
            or (trial.state in (_RUNNING, _WAITING) and trial.number < own.number)
        ]
        missing = self._confirmation.missing(trials)
        kept = 0 if records.is_repeat(own) else len(missing)
        limit = self._budget.trials
        if limit is not None and len(before) + kept >= limit:
            return False
        failed = [trial for trial in trials if trial.state == _FAILED]
        return self._has_epochs([*before, *failed], kept)

    def _has_epochs(self, trials: Sequence[FrozenTrial], kept: int) -> bool:
        if self._budget.epochs is None:
            return True
        taken = spending.epochs(trials, of_running=self._epochs)
        return taken + (1 + kept) * self._epochs <= self._budget.epochs

    def _has_time(self, trials: Sequence[FrozenTrial], kept: int) -> bool:
        """Whether a trial as long as others leaves time for repeats behind it."""
        if not kept or self._budget.minutes is None:
            return True
        workers = 1 + sum(trial.state == _RUNNING for trial in trials)
        rounds = 1 + -(-kept // workers)
        return self._clock.left > rounds * spending.usual(trials)

    def _take_back(self, trial: FrozenTrial, key: str, value: Any) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):
            self._write(trial, key, value)
            self._study.tell(trial.number, state=_FAILED, skip_if_finished=True)

    def _write(self, trial: FrozenTrial, key: str, value: Any) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(id_in_storage(trial), key, value)


def _is_repeated_twice(trials: Sequence[FrozenTrial], own: FrozenTrial) -> bool:
    """Whether another attempt at the place of a trial came before it."""
    if records.RETRY_OF not in own.user_attrs:
        return records.is_repeat(own) and any(
            _is_same_repeat(other, own) for other in trials[: own.number]
        )
    return any(
        not records.is_cut_off(attempt) and attempt.number < own.number
        for attempt in records.attempts(trials)[records.original(own)]
    )


def _is_same_repeat(one: FrozenTrial, other: FrozenTrial) -> bool:
    """Whether two workers have lined up one repeat of a configuration."""
    return records.WITHDRAWN not in one.user_attrs and all(
        one.user_attrs.get(key) == other.user_attrs[key]
        for key in (records.REPEAT_OF, records.REPEAT)
    )


def _is_deadly(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> bool:
    """Whether a place has cost a worker again and again, without an epoch."""
    attempts = records.attempts(trials).get(records.original(trial), [])[-_DEATHS:]
    return len(attempts) == _DEATHS and all(
        # Those of an earlier attempt are told again.
        len(one.intermediate_values) <= one.user_attrs.get(records.RESUMED_AFTER, 0)
        and (one is trial or one.user_attrs.get(records.CUT_OFF) == _DIED)
        for one in attempts
    )
