"""The models of the best trials, as files beside the study."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from kopt.tuning._trials import records
from kopt.tuning._trials.configurations import (
    best_first,
    by_score,
    configurations,
    sign_of,
)
from kopt.tuning._trials.confirmation import LEADING, Confirmation


class Checkpoints:
    """Files of the best trials of a study: whole, or not there.

    Args:
        folder: Where they stand.
        study: The study.
        keep: How many of the best are kept.
        confirmation: Which others may still turn out to be the best.
    """

    def __init__(
        self,
        folder: Path,
        study: optuna.Study,
        keep: int,
        confirmation: Confirmation | None = None,
    ):
        self._folder = folder
        self._study = study
        self._keep = keep
        self._confirmation = confirmation

    def path(self, number: int) -> Path:
        """The file of a trial's model."""
        return self._folder / f"{self._study.study_name}-{number}.keras"

    def weights_path(self, number: int) -> Path:
        """The file of a trial's weights, where the model itself cannot be saved."""
        return self._folder / f"{self._study.study_name}-{number}.weights.h5"

    def offer(self, number: int, model: Any, score: float) -> None:
        """Keep a trial's model if it is among the best so far."""
        trials = self._study.get_trials(deepcopy=False)
        if not records.is_repeat(trials[number]):
            sign = sign_of(self._study)
            better = [
                one
                for one in configurations(trials)
                if one.first.state == TrialState.COMPLETE
                and sign * one.score <= sign * score
            ]
            if len(better) >= max(self._keep, LEADING if self._confirmation else 0):
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
        sign = sign_of(self._study)
        found = best_first(self._study)[: self._keep]
        if self._confirmation:
            leaders = {one.first.number for one in self._confirmation.leaders(trials)}
            ranked = by_score(configurations(trials), sign)
            found += ranked[:LEADING]
            found += [one for one in ranked if one.first.number in leaders]
        best = [one.best_run(sign).number for one in found]
        best += [one.number for one in trials if one.state == TrialState.RUNNING]
        wanted = {path(one) for one in best for path in (self.path, self.weights_path)}
        for pattern in ("*.keras", "*.weights.h5"):
            for path in self._folder.glob(f"{self._study.study_name}-{pattern}"):
                number = path.name[len(self._study.study_name) + 1 :].split(".")[0]
                known = number.isdigit() and int(number) < len(trials)
                if known and path not in wanted:
                    path.unlink(missing_ok=True)

    def release(self) -> None:
        """Keep the best alone from now on: no other one can turn out to be it."""
        self._confirmation = None
        self.sweep()


def _whole(path: Path, write: Any) -> None:
    # Keras goes by the ending of a name.
    draft = path.with_name(f".{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
