"""Two workers that draw the same configuration of a finite space at the same time."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._trials import records

_LONGEST_WAIT = 5.0


class TrialTwice(Exception):
    """A trial whose configuration another worker runs already."""


def note_drawn(trial: optuna.Trial) -> None:
    """Note that a trial has all of its values."""
    trial.set_user_attr(records.DRAWN, True)


def beside(trials: Sequence[FrozenTrial], number: int) -> list[int]:
    """The trials that keep a configuration that the own trial draws too.

    Those that run and have a lower number. A repetition has one from before it was
    taken from the queue, and gives way to what has begun since.
    """
    is_repetition = records.RETRY_OF in trials[number].user_attrs
    return [
        trial.number
        for trial in trials
        if trial.state == TrialState.RUNNING
        and not records.is_repeat(trial)
        and (
            trial.number < number
            or (
                is_repetition
                and trial.number > number
                and records.RETRY_OF not in trial.user_attrs
            )
        )
    ]


def check_twins(study: optuna.Study, number: int, beside: Collection[int]) -> None:
    """Refuse a configuration that was drawn elsewhere a moment ago.

    Args:
        study: The study.
        number: The number of the own trial.
        beside: Numbers of the trials that would keep it, when the own one began.

    Raises:
        TrialTwice: If another trial has it.
    """
    trials = study.get_trials(deepcopy=False)
    own = trials[number]
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    is_alone = running == [own] and not beside
    if is_alone or own.user_attrs.get(records.GIVEN) or records.is_repeat(own):
        return
    # What was left when the first value was drawn may be gone with the last.
    for other in records.tried(trials):
        if other.state.is_finished() and other.params == own.params:
            raise TrialTwice(f"trial {other.number} had the same configuration")
    started = time.monotonic()
    for place in beside:
        while True:
            other = study.get_trials(deepcopy=False)[place]
            waited = time.monotonic() - started
            if waited > _LONGEST_WAIT or not _may_become(other, own):
                break
            time.sleep(0.02)
        if other.params == own.params and not records.is_cut_off(other):
            raise TrialTwice(f"trial {place} has the same configuration")


def _may_become(other: FrozenTrial, own: FrozenTrial) -> bool:
    """Whether a trial is still being drawn, and agrees with another one so far."""
    is_drawn = other.user_attrs.get(records.DRAWN, True) is True
    if other.state != TrialState.RUNNING or is_drawn:
        return False
    return len(other.params) < len(own.params) and all(
        own.params.get(name) == value for name, value in other.params.items()
    )
