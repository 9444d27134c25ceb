"""The loop of a search: which trial is next, when it ends, what a failure means."""

from __future__ import annotations

import gc
import time
from typing import Any

import optuna

from kopt.tuning._network import NetworkHyperModel
from kopt.tuning._samplers.auto import Auto
from kopt.tuning._samplers.measured_pruner import MeasuredPruner
from kopt.tuning._samplers.seeded import SeededSampler
from kopt.tuning._samplers.untried import is_left
from kopt.tuning._trials import clock as spending
from kopt.tuning._trials import records
from kopt.tuning._trials.checkpoints import Checkpoints
from kopt.tuning._trials.clock import Clock, OutOfTime
from kopt.tuning._trials.data import fingerprint, takes_hp
from kopt.tuning._trials.errors import SearchError, SpaceError
from kopt.tuning._trials.recorder import TrialFailed
from kopt.tuning._trials.run import FATAL, as_failure, resumption, run, trains_itself
from kopt.tuning._trials.space import Space
from kopt.tuning._trials.study import opened, repeat_cut_off, say, storage_of
from kopt.tuning.grid import Grid

_FAILURES_IN_A_ROW = 10
_SECONDS_BETWEEN_COLLECTIONS = 10


class Search:
    """One run of a search over a study that may have a past.

    Args:
        tuner: The tuner with the user's arguments.
        folder: The name of the folder that is held.
    """

    def __init__(self, tuner: Any, folder: str):
        self._tuner = tuner
        self._task = tuner.task
        self._budget = tuner.budget
        self._folder = folder
        storage = storage_of(tuner.storage, tuner.directory)
        self._study = opened(
            storage,
            tuner.name,
            self._task.objective,
            self._task.seed,
            fingerprint(self._task.data),
        )
        self._space = Space(self._study)
        self._strategy = self._chosen_strategy()
        self._study.sampler = SeededSampler(
            self._strategy, self._task.seed, self._study
        )
        self._study.pruner = self._chosen_pruner()
        self._checkpoints = Checkpoints(tuner.directory, self._study, tuner.keep)
        self._collected = time.monotonic()
        self._failures = 0
        self._first_failure: TrialFailed | None = None
        self._task.after_build = self._check_space_of_build

    def run(self) -> None:
        """Run trials until the budget or the space is used up."""
        self._line_up()
        self._clock = Clock(self._budget, spending.seconds(self._trials()))
        while not (reason := self._end()):
            self._study.optimize(self._objective, n_trials=1, catch=(TrialFailed,))
            self._checkpoints.sweep()
            resumption(self._task, self._study).sweep()
            self._free_memory()
            self._check_failures()
            self._check_space(is_whole=True)
            self._space.resumed = False
        say(self._study, f"The search ended: {reason}.")

    def _free_memory(self) -> None:
        # Models have circular references. To look through everything takes a part of a
        # second, which short trials should not pay each.
        if time.monotonic() - self._collected > _SECONDS_BETWEEN_COLLECTIONS:
            gc.collect()
            self._collected = time.monotonic()

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _chosen_strategy(self) -> Any:
        if self._tuner.sampler == "auto":
            return Auto(self._budget.trials, self._space, self._say)
        self._say(f"{self._tuner.sampler!r}: as given.")
        if not getattr(self._tuner.sampler, "is_repeatable", True):
            self._say(
                "A finished sampler proposes something else after a restart. Give its "
                "class, or a function of a seed."
            )
        return self._tuner.sampler

    def _chosen_pruner(self) -> optuna.pruners.BasePruner:
        if self._tuner.pruner is None:
            return optuna.pruners.NopPruner()
        epochs = self._task.fit_arguments.get("epochs", 1)
        pruner = self._tuner.pruner.pruner(epochs, self._study)
        return MeasuredPruner(pruner, self._say)

    def _line_up(self) -> None:
        again = repeat_cut_off(self._study, self._folder)
        if again:
            self._say(f"{again} trials that were cut off run again.")
        # All of them, though an earlier run may have ended in between.
        trials = [t for t in self._trials() if records.RETRY_OF not in t.user_attrs]
        given = sum(records.GIVEN in trial.user_attrs for trial in trials)
        if len(trials) > given:
            return
        for values in self._initial()[given:]:
            self._study.enqueue_trial({}, user_attrs={records.GIVEN: values})

    def _initial(self) -> list[dict[str, Any]]:
        """The configurations that the search begins with."""
        hypermodel = self._task.hypermodel
        usual = isinstance(hypermodel, NetworkHyperModel)
        if self._tuner.initial or not usual or self._tuner.sampler != "auto":
            return self._tuner.initial
        self._say("The usual configuration of the hypermodel comes first.")
        return [dict(hypermodel.space().values)]

    def _end(self) -> str | None:
        """Why no further trial is to start; `None` if one is."""
        trials = self._trials()
        count = spending.counted(trials)
        if self._budget.trials is not None and count >= self._budget.trials:
            return f"{count} trials are done"
        if self._clock.left <= spending.shortest(trials):
            return "its minutes are used up"
        if self._budget.epochs is not None:
            next_ones = self._task.fit_arguments.get("epochs", 1)
            if spending.epochs(trials) + next_ones > self._budget.epochs:
                return f"{spending.epochs(trials)} epochs are trained"
        if (tried := records.tried(trials)) and not is_left(tried, {}):
            return "all of the space has been tried"
        return None

    def _objective(self, trial: optuna.Trial) -> float:
        trial.set_user_attr(records.FOLDER, self._folder)
        trials = self._trials()
        place = records.ordinal(trials, trials[trial.number])
        try:
            outcome = run(self._task, trial, place, self._space, self._clock)
        except optuna.TrialPruned:
            self._failures, self._first_failure = 0, None
            trial.set_user_attr(records.REASON, "stopped by the pruner")
            raise
        except OutOfTime as cut:
            raise self._cut(trial, cut) from None
        except TrialFailed as failure:
            self._failed(trial, failure)
            raise
        except FATAL:
            trial.set_user_attr(records.CUT_OFF, True)
            raise
        except Exception as error:
            told = as_failure(error)
            self._failed(trial, told)
            raise told from error
        except BaseException:  # the user's interruption
            trial.set_user_attr(records.CUT_OFF, True)
            raise
        self._failures, self._first_failure = 0, None
        self._checkpoints.offer(trial.number, outcome.model, outcome.score)
        return outcome.score

    def _failed(self, trial: optuna.Trial, failure: TrialFailed) -> None:
        trial.set_user_attr(records.FAILURE, failure.kind)
        trial.set_user_attr(records.REASON, failure.reason)
        self._say(f"Trial {trial.number} failed ({failure.kind}): {failure.reason}")
        self._failures += 1
        self._first_failure = self._first_failure or failure

    def _cut(self, trial: optuna.Trial, cut: OutOfTime) -> Exception:
        """What a trial is told as that was cut by the clock."""
        trial.set_user_attr(records.REASON, f"cut off by {cut}")
        nothing_else = not spending.shortest(self._trials())
        if cut.of_search and not (nothing_else and cut.outcome):
            # It runs again if the search goes on.
            trial.set_user_attr(records.CUT_OFF, True)
            return TrialFailed("cut off", str(cut))
        if cut.outcome:
            trial.set_user_attr(records.SCORE, cut.outcome.score)
            self._checkpoints.offer(trial.number, cut.outcome.model, cut.outcome.score)
        return optuna.TrialPruned()

    def _check_failures(self) -> None:
        if self._failures >= _FAILURES_IN_A_ROW and self._first_failure:
            raise SearchError(
                f"{self._failures} trials in a row failed. The first one: "
                f"{self._first_failure.reason} The study keeps the reason of each."
            ) from self._first_failure

    def _check_space_of_build(self, space: Space) -> None:
        more = trains_itself(self._task.hypermodel) or takes_hp(self._task.data)
        self._check_space(is_whole=not more)

    def _check_space(self, is_whole: bool) -> None:
        """Refuse a space that is empty, or too large for a grid.

        Args:
            is_whole: Whether all names can have been asked for by now.
        """
        if is_whole and not self._space.names():
            raise SpaceError(
                "The model asks `hp` for nothing that could be searched. Ask it for at "
                'least one value: hp.Float("learning_rate", 1e-4, 1e-1, '
                'sampling="log").'
            )
        if not isinstance(self._strategy, Grid) or self._budget.trials is None:
            return
        size = self._space.size()
        if size is not None and size > self._budget.trials:
            raise SpaceError(
                f"The grid has {size} configurations, and the budget "
                f"{self._budget.trials} trials. Raise `trials`, take values out of the "
                "space, or take a sampler that does not need all of them: Random(), "
                "Sobol(), TPE(), Bayesian(). Names that belong to some values of "
                "another name only count less in `hp.conditional_scope(...)`."
            )

    def _say(self, text: str) -> None:
        say(self._study, text)
