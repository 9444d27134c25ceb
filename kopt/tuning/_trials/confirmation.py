"""Confirmation: the leading configurations are trained again with fresh seeds.

What is to be repeated follows from the trials of the study alone, so that all workers
agree on it without a word: it is decided when no trial of the search runs any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._trials import records
from kopt.tuning._trials.configurations import (
    Configuration,
    best_first,
    by_score,
    configurations,
    has_score,
    repeats_of,
    score_of,
    sign_of,
)

LEADING = 3


class Repeat(NamedTuple):
    """A trial that is to train a configuration again.

    Attributes:
        first: The trial of that configuration.
        place: Which of its repeats it is, from 1.
    """

    first: FrozenTrial
    place: int

    @property
    def attributes(self) -> dict[str, Any]:
        return {records.REPEAT_OF: self.first.number, records.REPEAT: self.place}


class Confirmation:
    """Which repeats a search still has to make.

    Args:
        study: The study.
        repeats: How often each of the leading configurations is repeated; 0 for never.
        trials: Trials of the search that must have ended before.
    """

    def __init__(self, study: optuna.Study, repeats: int, trials: int = 0):
        self._sign = sign_of(study)
        self._repeats = repeats
        self._trials = trials

    def missing(self, trials: Sequence[FrozenTrial]) -> list[Repeat]:
        """Repeats without a result that do not run, in the order of their turns."""
        if not self._repeats:
            return []
        made = repeats_of(trials)
        leaders = self.leaders(trials)
        if len(leaders) < 2 or is_deterministic(trials, made):
            return []
        wanted = [
            Repeat(leader.first, place)
            for place in range(1, self._repeats + 1)
            for leader in leaders
        ]
        return [one for one in wanted if _is_open(made, one)]

    def leaders(self, trials: Sequence[FrozenTrial]) -> list[Configuration]:
        """The configurations to repeat, the best one first.

        By what was known when the last trial of the search ended: what their repeats
        show must not replace them by others.
        """
        ended = [
            trial.number
            for trial in trials
            if trial.state in records.COUNTED and not records.is_repeat(trial)
        ]
        if not self._repeats or len(ended) < max(self._trials, 1):
            return []
        known = configurations(trials, before=max(ended))
        return by_score(known, self._sign)[:LEADING]


def is_deterministic(
    trials: Sequence[FrozenTrial], made: Mapping[tuple[int, int], FrozenTrial]
) -> bool:
    """Whether fresh seeds change nothing: the training has none, or one of its own.

    All repeats so far are their originals, number by number. Where a trial logs nothing
    but a score, two of them: an accuracy may be the same by chance.
    """
    pairs = [
        (trials[number], trial)
        for (number, _), trial in made.items()
        if has_score(trial)
    ]
    if not pairs or not all(map(_is_same, *zip(*pairs, strict=True))):
        return False
    return len(pairs) > 1 or bool(pairs[0][1].user_attrs.get(records.HISTORY))


def describe(study: optuna.Study, say: Callable[[str], None]) -> None:
    """Say what repeats have shown, when a search has ended."""
    trials = study.get_trials(deepcopy=False)
    made = repeats_of(trials)
    if not made:
        return
    if is_deterministic(trials, made):
        say(
            "Confirmation: trials were repeated to the last digit by fresh seeds, so "
            "that repeats say nothing. Their share of the budget went to the search."
        )
        return
    ranked = [one for one in best_first(study) if one.repeats or one.failures]
    told = "; ".join(
        f"trial {one.first.number} {one.score:.4g} over {len(one.runs)} runs "
        f"({score_of(one.first):.4g} at first"
        + (f", {one.failures} failed" if one.failures else "")
        + ")"
        for one in ranked
    )
    say(f"Confirmation: ranked by their means: {told}.")


def _is_open(made: Mapping[tuple[int, int], FrozenTrial], wanted: Repeat) -> bool:
    trial = made.get((wanted.first.number, wanted.place))
    return (
        trial is None or trial.state == TrialState.WAITING or records.is_cut_off(trial)
    )


def _is_same(first: FrozenTrial, again: FrozenTrial) -> bool:
    one, other = first.user_attrs, again.user_attrs
    return score_of(first) == score_of(again) and one.get(records.HISTORY) == other.get(
        records.HISTORY
    )
