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
# Which epochs make a trial's score.
SCORED_BY = "kopt:scored_by"
# Each line under a name of its own, so that two workers never write over each other.
WHY = "kopt:why "

# Of a trial.
RETRY_OF = "kopt:retry_of"
# The number of the trial whose configuration this one trains again with a fresh seed,
# and which of these repeats it is, from 1.
REPEAT_OF = "kopt:repeat_of"
REPEAT = "kopt:repeat"
# Why it was cut off; it runs again.
CUT_OFF = "kopt:cut_off"
# How many epochs of an earlier attempt a trial went on after.
RESUMED_AFTER = "kopt:resumed_after"
# A repetition that another worker had lined up too.
WITHDRAWN = "kopt:withdrawn"
FOLDER = "kopt:folder"
# Host and path of the folder.
PLACE = "kopt:place"
WORKER = "kopt:worker"
# Seconds of the search when a trial started, and when its worker was last heard of.
STARTED = "kopt:started"
BEAT = "kopt:beat"
# Whether all of its values are drawn; `LATER` if that shows in its training.
DRAWN = "kopt:drawn"
LATER = "later"
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
    """The place of a trial among all that had a configuration of their own.

    One that runs again after it was cut off has the place of its original, so that an
    interruption moves nothing; repeats of a configuration have none.
    """
    return sum(
        other.number < original(trial)
        and RETRY_OF not in other.user_attrs
        and not is_repeat(other)
        for other in trials
    )


def is_repeat(trial: FrozenTrial) -> bool:
    """Whether a trial trains the configuration of another one with a fresh seed."""
    return REPEAT_OF in trial.user_attrs


def attempts(trials: Sequence[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """The attempts at each place of a search, by the number of the first."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        if WITHDRAWN not in trial.user_attrs:
            found.setdefault(original(trial), []).append(trial)
    return found


def counting(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """The attempt that counts at each place, by numbers.

    The first one that was not cut off, or the last.
    """
    return {
        place: next((a for a in made if not is_cut_off(a)), made[-1]).number
        for place, made in attempts(trials).items()
    }


def is_cut_off(trial: FrozenTrial) -> bool:
    """Whether a trial ended without an end of its own, so that it runs again.

    The mark alone does not say so: a worker that was only late may have ended the
    trial after another one had marked it.
    """
    return trial.state == TrialState.FAIL and CUT_OFF in trial.user_attrs


def seeds(seed: int, place: int, repeat: int = 0) -> tuple[int, int]:
    """The seeds of a trial: for what is proposed, and for its training."""
    key = (repeat,) if repeat else ()
    sequence = np.random.SeedSequence([seed, place], spawn_key=key)
    proposal, training = sequence.generate_state(2)
    return int(proposal), int(training)


def training_seed(seed: int, trials: Sequence[FrozenTrial], trial: FrozenTrial) -> int:
    """The seed of a trial's weights, shuffling and dropout."""
    first = trials[trial.user_attrs.get(REPEAT_OF, trial.number)]
    place = ordinal(trials, first)
    return seeds(seed, place, trial.user_attrs.get(REPEAT, 0))[1]


def tried(trials: Sequence[FrozenTrial], but: int | None = None) -> list[FrozenTrial]:
    """Trials whose configurations count as tried: those that run, ended or failed.

    Not those that were cut off, whose configurations come again, nor repeats.

    Args:
        trials: All trials of a study.
        but: The number of a trial that is left out.
    """
    counts = set(counting(trials).values())
    return [
        trial
        for trial in trials
        if trial.number in counts
        and trial.number != but
        and not is_repeat(trial)
        and trial.state != TrialState.WAITING
        and not is_cut_off(trial)
    ]


def is_infeasible(trial: FrozenTrial) -> bool:
    """Whether a trial failed for a reason that lies in its configuration."""
    return (
        trial.state == TrialState.FAIL
        and trial.user_attrs.get(FAILURE) in INFEASIBLE
        and not is_cut_off(trial)
    )
