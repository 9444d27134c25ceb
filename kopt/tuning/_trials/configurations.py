"""Configurations that were tried, with all of their trials: the first and its repeats.

The best of many noisy scores is too good, and not always of the best configuration.
Where a configuration was trained again with fresh seeds, its mean counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._trials import records


class Configuration(NamedTuple):
    """A configuration with a score.

    Attributes:
        first: The trial that the search has drawn.
        repeats: Those of the same configuration with fresh seeds that have a score.
        failures: How many repeats have ended without one.
    """

    first: FrozenTrial
    repeats: tuple[FrozenTrial, ...] = ()
    failures: int = 0

    @property
    def runs(self) -> tuple[FrozenTrial, ...]:
        return (self.first, *self.repeats)

    @property
    def score(self) -> float:
        """The mean over all trials of the configuration."""
        return float(np.mean([score_of(trial) for trial in self.runs]))

    def best_run(self, sign: float) -> FrozenTrial:
        return min(self.runs, key=lambda run: (sign * score_of(run), run.number))


def configurations(
    trials: Sequence[FrozenTrial], before: float = np.inf
) -> list[Configuration]:
    """Those of complete trials; those of trials that were cut if there are none.

    Args:
        trials: All trials of a study.
        before: Repeats with this number or a higher one are left out.
    """
    searched = [trial for trial in trials if not records.is_repeat(trial)]
    found = [trial for trial in searched if trial.state == TrialState.COMPLETE]
    if not found:
        found = [
            trial
            for trial in searched
            if trial.state == TrialState.PRUNED and records.SCORE in trial.user_attrs
        ]
    repeats: dict[int, list[FrozenTrial]] = {}
    for (number, _), trial in repeats_of(trials).items():
        if trial.number < before:
            repeats.setdefault(number, []).append(trial)
    return [_configuration(first, repeats.get(first.number, [])) for first in found]


def best_first(study: optuna.Study) -> list[Configuration]:
    """Configurations from the best on.

    First those that were trained again without a failure, by their means; then those
    with failures; then the others, whose single scores are too good to compare.
    """
    sign = sign_of(study)

    def rank(one: Configuration) -> tuple[int, float, int]:
        place = (1 if one.failures else 0) if one.repeats or one.failures else 2
        return place, sign * one.score, one.first.number

    return sorted(configurations(study.get_trials(deepcopy=False)), key=rank)


def by_score(found: Sequence[Configuration], sign: float) -> list[Configuration]:
    """Configurations from the lowest signed score on, repeated or not."""
    return sorted(found, key=lambda one: (sign * one.score, one.first.number))


def repeats_of(
    trials: Sequence[FrozenTrial],
) -> dict[tuple[int, int], FrozenTrial]:
    """The trial that counts for each repeat, by the number of the first and its own."""
    found: dict[tuple[int, int], FrozenTrial] = {}
    if not any(map(records.is_repeat, trials)):
        return found
    for place, number in sorted(records.counting(trials).items()):
        trial = trials[place]
        if records.is_repeat(trial):
            attributes = trial.user_attrs
            key = (attributes[records.REPEAT_OF], attributes[records.REPEAT])
            found.setdefault(key, trials[number])
    return found


def sign_of(study: optuna.Study) -> float:
    """What makes the lower of two signed scores the better one."""
    return -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0


def score_of(trial: FrozenTrial) -> float:
    """The score of a trial that has one."""
    score = trial.user_attrs.get(records.SCORE, trial.value)
    return float(score if score is not None else "nan")


def has_score(trial: FrozenTrial) -> bool:
    """Whether a trial has a score, one that was cut included."""
    return trial.state == TrialState.COMPLETE or (
        trial.state == TrialState.PRUNED and records.SCORE in trial.user_attrs
    )


def _configuration(first: FrozenTrial, repeats: Sequence[FrozenTrial]) -> Configuration:
    ended = [one for one in repeats if one.state.is_finished()]
    scored = tuple(one for one in ended if has_score(one))
    lost = sum(not has_score(one) and not records.is_cut_off(one) for one in ended)
    return Configuration(first, scored, lost)
