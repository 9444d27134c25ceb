"""The models of the best trials, as files beside the study."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._trials import records


class Checkpoints:
    """Files of the best trials of a study: whole, or not there.

    Args:
        folder: Where they stand.
        study: The study.
        keep: How many of the best are kept.
    """

    def __init__(self, folder: Path, study: optuna.Study, keep: int):
        self._folder = folder
        self._study = study
        self._keep = keep

    def path(self, number: int) -> Path:
        """The file of a trial's model."""
        return self._folder / f"{self._study.study_name}-{number}.keras"

    def weights_path(self, number: int) -> Path:
        """The file of a trial's weights, where the model itself cannot be saved."""
        return self._folder / f"{self._study.study_name}-{number}.weights.h5"

    def offer(self, number: int, model: Any, score: float) -> None:
        """Keep a trial's model if it is among the best so far."""
        better = [one for one in best_first(self._study) if self._is_ahead(one, score)]
        if len(better) >= self._keep:
            return
        try:
            _whole(self.path(number), model.save)
        except (TypeError, ValueError, NotImplementedError):
            # Something in it that Keras cannot write down, such as a loss of its own.
            _whole(self.weights_path(number), model.save_weights)

    def sweep(self) -> None:
        """Take away the files of trials that are not among the best any more."""
        # Read before the files: what is not known yet, or runs, may be of value.
        trials = self._study.get_trials(deepcopy=False)
        best = [trial.number for trial in best_first(self._study)[: self._keep]]
        best += [one.number for one in trials if one.state == TrialState.RUNNING]
        wanted = {path(one) for one in best for path in (self.path, self.weights_path)}
        for pattern in ("*.keras", "*.weights.h5"):
            for path in self._folder.glob(f"{self._study.study_name}-{pattern}"):
                number = path.name[len(self._study.study_name) + 1 :].split(".")[0]
                known = number.isdigit() and int(number) < len(trials)
                if known and path not in wanted:
                    path.unlink(missing_ok=True)

    def _is_ahead(self, trial: FrozenTrial, score: float) -> bool:
        if trial.state != TrialState.COMPLETE:
            return False
        return at_least(self._study, float(trial.value or 0.0), score)


def best_first(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials from the best score on; those that were cut if there are none."""
    trials = study.get_trials(deepcopy=False)
    found = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not found:
        found = [
            trial
            for trial in trials
            if trial.state == TrialState.PRUNED and records.SCORE in trial.user_attrs
        ]
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    return sorted(found, key=lambda trial: (sign * score_of(trial), trial.number))


def score_of(trial: FrozenTrial) -> float:
    """The score of a trial that has one."""
    score = trial.user_attrs.get(records.SCORE, trial.value)
    return float(score if score is not None else "nan")


def at_least(study: optuna.Study, score: float, other: float) -> bool:
    """Whether a score is as good as another, or better."""
    if study.direction == StudyDirection.MAXIMIZE:
        return score >= other
    return score <= other


def _whole(path: Path, write: Any) -> None:
    # Keras goes by the ending of a name.
    draft = path.with_name(f".{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
