"""The trials of a study that somebody else runs, and tells how they went."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from kopt._keras.optuna_trials import id_in_storage
from kopt.tuning._samplers.auto import Auto
from kopt.tuning._samplers.measured_pruner import MeasuredPruner
from kopt.tuning._samplers.seeded import SeededSampler
from kopt.tuning._samplers.untried import is_left
from kopt.tuning._trials import records
from kopt.tuning._trials.space import Space
from kopt.tuning._trials.study import opened, quiet, say
from kopt.tuning._workers.storages import storage_of


class ToldTrials:
    """Trials by the names that Keras Tuner gives them.

    Args:
        oracle: Keras Tuner's oracle with the user's arguments.
        folder: Where the study is, if the user did not say.
    """

    def __init__(self, oracle: Any, folder: Path):
        self._storage = storage_of(oracle.storage, folder)
        self.study = opened(
            self._storage, oracle.name, oracle.objective, oracle.seed, None
        )
        self._pruner = oracle.pruner
        self._space = Space(self.study)
        strategy = oracle.sampler
        if strategy == "auto":
            strategy = Auto(oracle.max_trials, self._space, self._say)
        self.study.sampler = SeededSampler(strategy, oracle.seed, self.study)
        self.study.pruner = optuna.pruners.NopPruner()
        self._running: dict[str, optuna.Trial] = {}
        self._hopeless: set[str] = set()
        self._newest = ""

    def is_exhausted(self) -> bool:
        """Whether all of the space has been tried."""
        tried = records.tried(self.study.get_trials(deepcopy=False))
        return bool(tried) and not is_left(tried, {})

    def start(self, name: str) -> None:
        """Begin a trial; with the same proposals, if it was begun and cut off."""
        cut_off = self._found(name)
        attributes: dict[str, Any] = {records.TOLD_AS: name}
        if cut_off is not None and cut_off.state == TrialState.RUNNING:
            attributes[records.RETRY_OF] = records.original(cut_off)
        with quiet():
            self.study.enqueue_trial({}, user_attrs=attributes)
            if records.RETRY_OF in attributes:
                # Behind its repetition: whatever happens in between, it is not lost.
                self._storage.set_trial_user_attr(
                    id_in_storage(cut_off), records.CUT_OFF, "its process ended"
                )
                self.study.tell(cut_off.number, state=TrialState.FAIL)
            self._running[name] = self.study.ask()
        self._newest = name

    def ask(self, name: str, hyperparameter: Any) -> Any:
        """The value of a hyperparameter for a trial."""
        if name not in self._running:
            self.start(name)
        return self._space.ask(self._running[name], hyperparameter)

    def lay_out(self, epochs: int) -> None:
        """Prune from now on, trials that would train for so many epochs."""
        if self._pruner is not None:
            pruner = self._pruner.pruner(epochs, self.study)
            self.study.pruner = MeasuredPruner(pruner, self._say)

    def is_hopeless(self, step: int, value: float) -> bool:
        """Take note of the objective after an epoch, and say whether to stop."""
        trial = self._running[self._newest]
        trials = self.study.get_trials(deepcopy=False)
        known = trials[trial.number].intermediate_values
        if step in known or not math.isfinite(value):
            return False  # Another execution of a trial follows the first.
        trial.report(float(value), step)
        if not trial.should_prune():
            return False
        self._hopeless.add(self._newest)
        return True

    def note(self, name: str, values: dict[str, Any]) -> None:
        """Keep a trial's values, before anything says that it has ended."""
        if name in self._running:
            self._running[name].set_user_attr(records.VALUES, values)
            if name in self._hopeless:
                reason = "stopped by the pruner"
                self._running[name].set_user_attr(records.REASON, reason)

    def end(self, name: str, score: float | None, message: str | None) -> None:
        """Tell the study how a trial ended, if it does not know."""
        found = self._found(name)
        if found is None or found.state != TrialState.RUNNING:
            return
        trial = self._running.pop(name, None)
        self._space.resumed = False
        if name in self._hopeless:
            self.study.tell(found.number, state=TrialState.PRUNED)
        elif score is not None and math.isfinite(score):
            self.study.tell(found.number, float(score))
        else:
            if trial is not None:
                kind = "error" if message else "not finite"
                lines = (message or f"The score is {score}.").strip().splitlines()
                trial.set_user_attr(records.FAILURE, kind)
                trial.set_user_attr(records.REASON, lines[-1])
            self.study.tell(found.number, state=TrialState.FAIL)

    def _found(self, name: str) -> Any:
        trials = self.study.get_trials(deepcopy=False)
        named = [one for one in trials if one.user_attrs.get(records.TOLD_AS) == name]
        return named[-1] if named else None

    def _say(self, text: str) -> None:
        say(self.study, text)
