"""A pruner that waits until early epochs tell something about final scores."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from kopt.tuning._trials import records

# With fewer trials a rank correlation is mostly chance; with more, too many trials run
# to their end before any is stopped.
_MEASURED = 6
_AGREEMENT = 0.6


class MeasuredPruner(BasePruner):
    """Another pruner's verdicts, from the first epoch on at which ranks agree.

    The first complete trials of a study all run to their end. They show from which
    epoch on the best value so far ranks trials as their final one does: a rank
    correlation (Spearman) of 0.6 or more, there and at all later epochs.

    Args:
        pruner: The pruner whose verdicts count.
        say: Takes a line of text for the log of the search.
    """

    def __init__(self, pruner: BasePruner, say: Callable[[str], None]):
        self._pruner = pruner
        self._say = say
        self._from: int | None = None

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        # Asked at every epoch, so that it has seen those that were measured.
        tried: Any = _Tried(study)
        verdict = self._pruner.prune(tried, trial)
        if self._from is None:
            self._from = self._measured(study)
        done = trial.last_step or 0
        return verdict and self._from is not None and done >= self._from

    def _measured(self, study: Study) -> int | None:
        trials = study.get_trials(deepcopy=False)
        complete = [
            trial
            for trial in trials
            if trial.state == TrialState.COMPLETE
            and len(trial.intermediate_values) > 1
            and not records.is_repeat(trial)
        ]
        complete.sort(key=lambda trial: records.ordinal(trials, trial))
        if len(complete) < _MEASURED:
            return None
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        curves = [
            [sign * value for _, value in sorted(trial.intermediate_values.items())]
            for trial in complete[:_MEASURED]
        ]
        epoch = first_telling_epoch(curves)
        self._say(
            f"Trials may be stopped from epoch {epoch} on: from there on the first "
            f"{_MEASURED} complete trials rank as at their end (rank correlation of "
            f"{_AGREEMENT} or more)."
        )
        return epoch


class _Tried:
    """A study without repeats, and without the trials that were cut off.

    Optuna notes the value of a rung with the trial. One that was cut off and runs again
    would be compared with itself.
    """

    def __init__(self, study: Study):
        self._study = study

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = records.tried(self._study.get_trials(deepcopy=deepcopy))
        return [trial for trial in trials if states is None or trial.state in states]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


def first_telling_epoch(curves: Sequence[Sequence[float]]) -> int:
    """The first epoch, from 1, from which on ranks agree with the final ones.

    Args:
        curves: Values by epoch of each trial, lower ones better.
    """
    length = min(map(len, curves))
    best = np.array([np.minimum.accumulate(curve)[:length] for curve in curves])
    final = np.array([min(curve) for curve in curves])
    for epoch in range(length, 0, -1):
        values = best[:, epoch - 1]
        if np.ptp(values) == 0 or np.ptp(final) == 0:
            return epoch + 1
        if stats.spearmanr(values, final).statistic < _AGREEMENT:
            return epoch + 1
    return 1
