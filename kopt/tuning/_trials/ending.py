"""When a search has ended, for all of its workers."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._samplers.untried import is_left
from kopt.tuning._trials import clock as spending
from kopt.tuning._trials import records
from kopt.tuning._trials.clock import Clock
from kopt.tuning._trials.confirmation import Confirmation
from kopt.tuning.budget import Budget


def end_of(
    trials: Sequence[FrozenTrial],
    budget: Budget,
    clock: Clock,
    epochs: int,
    confirmation: Confirmation,
) -> str | None:
    """Why no further trial is to start, here or elsewhere; `None` if one may.

    Args:
        trials: All trials of the study.
        budget: The budget of the search.
        clock: The clock of the search.
        epochs: Epochs of a trial that is not stopped.
        confirmation: Which repeats are still to be made.
    """
    count = spending.counted(trials)
    if budget.trials is not None and count >= budget.trials:
        return f"{count} trials are done"
    if clock.left <= spending.shortest(trials):
        return "its minutes are used up"
    if any(trial.state == TrialState.RUNNING for trial in trials):
        return None  # Another worker's, which may yet run again.
    trained = spending.epochs(trials)
    if budget.epochs is not None and trained + epochs > budget.epochs:
        return f"{trained} epochs are trained"
    if not is_exhausted(trials) or confirmation.missing(trials):
        return None
    return "all of the space has been tried"


def is_exhausted(trials: Sequence[FrozenTrial]) -> bool:
    """Whether all of a space has been tried, or is being tried."""
    tried = records.tried(trials)
    return bool(tried) and not is_left(tried, {})
