"""The trials of a study as flat rows."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._trials import records
from kopt.tuning._trials.configurations import has_score, score_of

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
    counts = set(records.counting(trials).values())
    return [_row(trial, trial.number in counts) for trial in trials]


def _row(trial: FrozenTrial, counts: bool) -> dict[str, Any]:
    attributes = trial.user_attrs
    cut = records.is_cut_off(trial) or not counts
    state = "cut off" if cut else _STATES[trial.state]
    if records.WITHDRAWN in attributes:
        state = "withdrawn"
    reason = attributes.get(records.REASON)
    if reason is None and cut:
        reason = attributes.get(records.CUT_OFF)
    values = attributes.get(records.VALUES, {})
    return {
        "number": trial.number,
        "state": state,
        "score": score_of(trial) if has_score(trial) else None,
        "repeat_of": attributes.get(records.REPEAT_OF),
        "epochs": len(trial.intermediate_values),
        "seconds": attributes.get(records.SECONDS),
        "reason": reason,
        **{f"hp:{name}": value for name, value in values.items()},
    }
