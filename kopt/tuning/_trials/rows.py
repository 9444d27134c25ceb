"""The trials of a study as flat rows."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._trials import records
from kopt.tuning._trials.checkpoints import score_of

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def rows(study: optuna.Study) -> list[dict[str, Any]]:
    """A dict for each trial of a study, in the order of their numbers."""
    trials = study.get_trials(deepcopy=False)
    last = records.last_repetitions(trials)
    return [_row(trial, last) for trial in trials]


def _row(trial: FrozenTrial, last: dict[int, int]) -> dict[str, Any]:
    attributes = trial.user_attrs
    repeated = last.get(records.original(trial), trial.number) != trial.number
    cut = records.CUT_OFF in attributes or repeated
    scored = trial.state == TrialState.COMPLETE or records.SCORE in attributes
    values = attributes.get(records.VALUES, {})
    return {
        "number": trial.number,
        "state": "cut off" if cut else _STATES[trial.state],
        "score": score_of(trial) if scored else None,
        "epochs": len(trial.intermediate_values),
        "seconds": attributes.get(records.SECONDS),
        "reason": attributes.get(records.REASON),
        **{f"hp:{name}": value for name, value in values.items()},
    }
