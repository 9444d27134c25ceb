"""A trial that was cut off goes on at the epoch after its last.

Each trial has a folder beside the study, with one backup that each epoch writes anew.
Its repetition takes the newest of the attempts before it.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import optuna
from optuna.trial import FrozenTrial, TrialState

from kopt.callbacks import BackupAndRestore
from kopt.tuning._trials import records

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class TrialBackup(BackupAndRestore):
    """Backs a trial up, and says in the search's log what users hear elsewhere.

    Args:
        folder: The folder of the trial.
        say: Takes a line for the log.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        # It goes when the study knows how the trial ended.
        super().__init__(folder, delete_checkpoint=False)
        self._say = say

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        try:
            super().on_train_begin(logs)
        except ValueError as error:
            self._say(f"Trials are not backed up, and start anew if cut off: {error}")

    def warn(self, text: str) -> None:
        self._say(text)

    def failed(self, error: OSError | TypeError) -> None:
        self._say(f"A trial could not be backed up: {error}")

    def refused(self, refusal: ValueError) -> None:
        """Start the trial anew."""
        self._say(f"A trial starts anew. {refusal}")
        self.file.unlink(missing_ok=True)


class Resumption:
    """The folders of the trials of a study.

    Args:
        directory: The folder of the search.
        study: Its study.
        say: Takes a line for the search's log.
    """

    def __init__(
        self, directory: Path, study: optuna.Study, say: Callable[[str], None]
    ):
        self._directory = directory / "trials"
        self._study = study
        self._say = say

    def backup(self, trial: optuna.Trial) -> BackupAndRestore:
        """The callback that backs a trial up, and goes on where it was cut off."""
        found = TrialBackup(self._folder(trial.number), self._say)
        trials = self._study.get_trials(deepcopy=False)
        attempts = [
            one
            for one in trials[: trial.number]
            if records.original(one) == records.original(trials[trial.number])
        ]
        self._take_over(attempts, found.file)
        trained = max((len(one.intermediate_values) for one in attempts), default=0)
        if trained and not found.file.exists():
            self._say(
                f"Trial {trial.number} repeats one that had trained {trained} epochs, "
                f"and starts anew: there is no backup in {str(self._directory)!r}. "
                "Workers on several machines need a `directory` that all of them see."
            )
        return found

    def sweep(self) -> None:
        """Take away the folders of trials that have ended."""
        trials = self._study.get_trials(deepcopy=False)
        last = {
            records.original(trial): trial
            for trial in trials
            if records.WITHDRAWN not in trial.user_attrs
        }
        for trial in trials:
            folder = self._folder(trial.number)
            attempt = last.get(records.original(trial), trial)
            if has_ended(attempt) and folder.exists():
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, number: int) -> Path:
        return self._directory / f"{self._study.study_name}-{number}"

    def _take_over(self, attempts: Sequence[FrozenTrial], target: Path) -> None:
        """Copy the backup of the latest attempt that has one."""
        for attempt in reversed(attempts):
            source = self._folder(attempt.number) / target.name
            if not source.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.draft")
            # A copy: that attempt may be late only, and still write.
            shutil.copyfile(source, draft)
            draft.replace(target)
            return


def has_ended(trial: FrozenTrial) -> bool:
    """Whether a trial, the last attempt at its place, has an end of its own."""
    failed = trial.state == TrialState.FAIL and records.CUT_OFF not in trial.user_attrs
    return trial.state in _ENDED or failed


def backs_up(callback: Any) -> bool:
    """Whether a user's callback backs the same training up."""
    return isinstance(callback, (BackupAndRestore, keras.callbacks.BackupAndRestore))
