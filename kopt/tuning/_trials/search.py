"""The loop of a worker: when the search ends, and what a failure means."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from kopt.tuning._samplers.seeded import SeededSampler
from kopt.tuning._trials import clock as spending
from kopt.tuning._trials import records
from kopt.tuning._trials.checkpoints import Checkpoints
from kopt.tuning._trials.choices import (
    check_space,
    confirmation_of,
    initial_of,
    pruner_of,
    strategy_of,
)
from kopt.tuning._trials.clock import Clock, OutOfTime, TrialLost
from kopt.tuning._trials.confirmation import describe
from kopt.tuning._trials.data import fingerprint, takes_hp
from kopt.tuning._trials.ending import end_of, is_exhausted
from kopt.tuning._trials.failures import Failures
from kopt.tuning._trials.progress import Progress
from kopt.tuning._trials.recorder import TrialFailed
from kopt.tuning._trials.run import FATAL, as_failure, resumption, run, trains_itself
from kopt.tuning._trials.space import Space
from kopt.tuning._trials.study import opened, say
from kopt.tuning._workers.folder import Worker
from kopt.tuning._workers.pulse import Pulse
from kopt.tuning._workers.queue import Queue
from kopt.tuning._workers.storages import storage_of
from kopt.tuning._workers.twins import TrialTwice, beside, check_twins, note_drawn

_SECONDS_BETWEEN_COLLECTIONS = 10
_SECONDS_BETWEEN_LOOKS = 1.0


class Search:
    """One worker's run of a search over a study that may have a past.

    Args:
        tuner: The tuner with the user's arguments.
        worker: The worker, in its folder.
    """

    def __init__(self, tuner: Any, worker: Worker):
        self._tuner = tuner
        self._task = tuner.task
        self._budget = tuner.budget
        self._worker = worker
        self._storage = storage_of(tuner.storage, tuner.directory)
        self._study = opened(
            self._storage,
            tuner.name,
            self._task.objective,
            self._task.seed,
            fingerprint(self._task.data),
            self._task.score,
        )
        self._say(_scored(self._task))
        self._space = Space(self._study)
        self._strategy = strategy_of(tuner, self._space, self._say)
        self._study.sampler = SeededSampler(
            self._strategy, self._task.seed, self._study
        )
        self._study.pruner = pruner_of(tuner, self._study, self._say)
        self._confirmation = confirmation_of(tuner, self._study, self._say)
        self._checkpoints = Checkpoints(
            tuner.directory, self._study, tuner.keep, self._confirmation
        )
        self._progress = Progress(
            self._study, self._task.objective.name, self._budget, tuner.progress
        )
        self._task.progress = self._progress
        self._collected = time.monotonic()
        self._failures = Failures()
        self._task.after_build = self._check_space_of_build
        self._epochs = self._task.fit_arguments.get("epochs", 1)
        self._given = initial_of(tuner, self._say)

    def run(
        self, until: Callable[[int], bool] = lambda trials: False, spent: float = 0.0
    ) -> bool:
        """Run trials until the budget or the space is used up, by all workers.

        Args:
            until: Told after each trial how many this worker has run; whether another
                worker is to take its place.
            spent: Seconds that the search has used, if more than the study knows.

        Returns:
            Whether another worker is to go on.
        """
        noted = spending.spent(self._trials()) + self._tuner.seconds_since_call()
        self._clock = self.clock = Clock(self._budget, max(noted, spent))
        self._clock.keep(spending.seconds_of_best(self._study))
        pulse = Pulse(self._study, self._storage, self._clock, self._tuner.grace)
        self._queue = Queue(
            self._study,
            self._storage,
            self._worker,
            pulse,
            self._clock,
            self._budget,
            self._epochs,
            {records.DRAWN: self._may_ask_later() and records.LATER},
            self._confirmation,
            self._say,
        )
        done = 0
        with pulse.beating(), contextlib.closing(self._progress):
            self._progress.open()
            while (trial := self._next()) is not None:
                pulse.start(trial)
                try:
                    self._take(trial)
                finally:
                    pulse.stop()
                self._progress.look(is_due=True)
                self._checkpoints.sweep()
                resumption(self._task, self._study).sweep()
                self._free_memory()
                self._failures.check()
                check_space(self._space, self._strategy, self._budget, is_whole=True)
                self._space.resumed = False
                self._clock.keep(spending.seconds_of_best(self._study))
                done += 1
                if until(done):
                    return True
        return False

    def _next(self) -> optuna.Trial | None:
        """The next trial of this worker; `None` when the search has ended.

        A worker without a trial stays until those of the others have ended: should one
        of them be lost, it is run again here.
        """
        pause = 0.05
        while True:
            self._queue.bury()
            trials = self._trials()
            reason = end_of(
                trials, self._budget, self._clock, self._epochs, self._confirmation
            )
            if reason:
                describe(self._study, self._say)
                self._checkpoints.release()
                self._say(f"The search ended: {reason}.")
                return None
            self._space.refresh()
            if any(trial.state == TrialState.RUNNING for trial in trials):
                # The others' space is no earlier one.
                self._space.resumed = False
            trial = self._queue.next(is_exhausted(trials))
            if trial is not None:
                return trial
            self._progress.look()
            time.sleep(pause)
            pause = min(2 * pause, _SECONDS_BETWEEN_LOOKS)

    def _take(self, trial: optuna.Trial) -> None:
        """Run a trial and tell the study how it ended."""
        score = None
        try:
            score = self._objective(trial)
            state = TrialState.COMPLETE
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except (TrialFailed, TrialTwice):
            state = TrialState.FAIL
        except (TrialLost, UpdateFinishedTrialError):
            state = None
        except BaseException:
            with contextlib.suppress(Exception):
                self._queue.tell(trial, TrialState.FAIL)
            raise
        if state is None or not self._queue.tell(trial, state, score):
            self._say(
                f"Trial {trial.number} was called dead while its worker was late, and "
                "runs again. If this happens often, give the search a longer `grace`."
            )

    def _free_memory(self) -> None:
        # Models have circular references. To look through everything takes a part of a
        # second, which short trials should not pay each.
        if time.monotonic() - self._collected > _SECONDS_BETWEEN_COLLECTIONS:
            gc.collect()
            self._collected = time.monotonic()

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _objective(self, trial: optuna.Trial) -> float:
        trials = self._trials()
        own = trials[trial.number]
        place = records.ordinal(trials, own)
        is_given = records.is_repeat(own) or records.GIVEN in own.user_attrs
        if not is_given and place < len(self._given):
            trial.set_user_attr(records.GIVEN, self._given[place])
        self._beside = beside(trials, trial.number)
        self._trial = trial
        try:
            seed = records.training_seed(self._task.seed, trials, own)
            outcome = run(self._task, trial, seed, self._space, self._clock)
        except optuna.TrialPruned:
            self._failures.clear()
            trial.set_user_attr(records.REASON, "stopped by the pruner")
            raise
        except OutOfTime as cut:
            raise self._cut(trial, cut) from None
        except TrialFailed as failure:
            self._failed(trial, failure)
            raise
        except (TrialLost, UpdateFinishedTrialError):
            raise
        except TrialTwice as twice:
            trial.set_user_attr(records.CUT_OFF, str(twice))
            raise
        except FATAL as error:
            trial.set_user_attr(records.CUT_OFF, f"{type(error).__name__}: {error}")
            raise
        except Exception as error:
            told = as_failure(error)
            self._failed(trial, told)
            raise told from error
        except BaseException:
            trial.set_user_attr(records.CUT_OFF, "its worker was interrupted")
            raise
        self._failures.clear()
        self._checkpoints.offer(trial.number, outcome.model, outcome.score)
        return outcome.score

    def _failed(self, trial: optuna.Trial, failure: TrialFailed) -> None:
        trial.set_user_attr(records.FAILURE, failure.kind)
        trial.set_user_attr(records.REASON, failure.reason)
        self._say(f"Trial {trial.number} failed ({failure.kind}): {failure.reason}")
        self._failures.note(failure)

    def _cut(self, trial: optuna.Trial, cut: OutOfTime) -> Exception:
        """What a trial is told as that was cut by the clock."""
        trial.set_user_attr(records.REASON, f"cut off by {cut}")
        nothing_else = not spending.shortest(self._trials())
        if cut.of_search and not (nothing_else and cut.outcome):
            # It runs again if the search goes on.
            trial.set_user_attr(records.CUT_OFF, f"by {cut}")
            return TrialFailed("cut off", str(cut))
        if cut.outcome:
            trial.set_user_attr(records.SCORE, cut.outcome.score)
            self._checkpoints.offer(trial.number, cut.outcome.model, cut.outcome.score)
        return optuna.TrialPruned()

    def _check_space_of_build(self, space: Space) -> None:
        check_space(
            space, self._strategy, self._budget, is_whole=not self._may_ask_later()
        )
        if self._may_ask_later():
            self._clock.at_first_batch = self._end_of_drawing
        else:
            self._end_of_drawing()

    def _end_of_drawing(self) -> None:
        note_drawn(self._trial)
        if self._space.size() is not None:
            check_twins(self._study, self._trial.number, self._beside)

    def _may_ask_later(self) -> bool:
        """Whether names may be asked for after the model was built."""
        return trains_itself(self._task.hypermodel) or takes_hp(self._task.data)

    def _say(self, text: str) -> None:
        say(self._study, text)


def _scored(task: Any) -> str:
    """How a trial's score comes about, as a line of the log."""
    epochs = {"best": "of its best epoch", "last": "of its last epoch"}.get(
        task.score, f"as the mean of its last {task.score} epochs"
    )
    return f"A trial's score is {task.objective.name} {epochs}."
