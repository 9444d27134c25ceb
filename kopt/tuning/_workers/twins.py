"""Two workers that draw the same configuration of a finite space at the same time."""

from __future__ import annotations

import time
from collections.abc import Collection

import optuna
from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._trials import records

_LONGEST_WAIT = 5.0


class TrialTwice(Exception):
    """A trial whose configuration another worker runs already."""


def note_drawn(trial: optuna.Trial) -> None:
    """Note that a trial has all of its values."""
    trial.set_user_attr(records.DRAWN, True)


def check_twins(study: optuna.Study, number: int, beside: Collection[int]) -> None:
    """Refuse a configuration that was drawn elsewhere a moment ago.

    The trial with the lower number keeps it.

    Args:
        study: The study.
        number: The number of the own trial.
        beside: Numbers of those that ran when it began.

    Raises:
        TrialTwice: If another trial has it.
    """
    own = study.get_trials(deepcopy=False)[number]
    if own.user_attrs.get(records.GIVEN):
        return
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
