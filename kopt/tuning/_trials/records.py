"""What a study and its trials carry beside parameters and values.

Optuna's study is the only truth of a search. These are the names of the attributes
under which kopt writes to it, and what follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

# Of a study.
SPACE = "kopt:space"
OBJECTIVE = "kopt:objective"
DATA = "kopt:data"
SEED = "kopt:seed"
WHY = "kopt:why"

# Of a trial.
RETRY_OF = "kopt:retry_of"
CUT_OFF = "kopt:cut_off"
# How many epochs of an earlier attempt a trial went on after.
RESUMED_AFTER = "kopt:resumed_after"
FOLDER = "kopt:folder"
GIVEN = "kopt:given"
VALUES = "kopt:values"
HISTORY = "kopt:history"
SECONDS = "kopt:seconds"
SCORE = "kopt:score"
FAILURE = "kopt:failure"
REASON = "kopt:reason"
# The name under which Keras Tuner knows a trial.
TOLD_AS = "kopt:told_as"

# Failures that say something about the configuration itself.
INFEASIBLE = ("not finite", "out of memory", "refused")

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


def original(trial: FrozenTrial) -> int:
    """The number of the trial that this one repeats; its own if it repeats none."""
    return trial.user_attrs.get(RETRY_OF, trial.number)


def ordinal(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> int:
    """The place of a trial among all that are no repetition of one that was cut off.

    A repetition has the place of its original, so that an interruption moves nothing.
    """
    return sum(
        other.number < original(trial) and RETRY_OF not in other.user_attrs
        for other in trials
    )


def last_repetitions(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """The latest repetition of each trial that has one, by numbers."""
    repeating = (trial for trial in trials if RETRY_OF in trial.user_attrs)
    return {original(trial): trial.number for trial in repeating}


def seeds(seed: int, place: int) -> tuple[int, int]:
    """The seeds of a trial: for what is proposed, and for its training."""
    proposal, training = np.random.SeedSequence([seed, place]).generate_state(2)
    return int(proposal), int(training)


def tried(trials: Sequence[FrozenTrial], but: int | None = None) -> list[FrozenTrial]:
    """Trials whose configurations count as tried: those that run, ended or failed.

    Not those that were cut off, whose configurations come again.

    Args:
        trials: All trials of a study.
        but: The number of a trial that is left out.
    """
    last = last_repetitions(trials)
    return [
        trial
        for trial in trials
        if trial.number != but
        and trial.state != TrialState.WAITING
        and CUT_OFF not in trial.user_attrs
        and last.get(original(trial), trial.number) == trial.number
    ]


def is_infeasible(trial: FrozenTrial) -> bool:
    """Whether a trial failed for a reason that lies in its configuration."""
    return (
        trial.state == TrialState.FAIL
        and trial.user_attrs.get(FAILURE) in INFEASIBLE
        and CUT_OFF not in trial.user_attrs
    )
