"""Searches whose leading configurations are tried again, paid from the same trials."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from _tuning_tasks import Task

from kopt.tuning._trials.configurations import best_first
from kopt.tuning._trials.confirmation import Confirmation


class Noise:
    """A source of noise for a task, that never draws one stored run twice.

    Two trainings of one configuration have two seeds. Its stored runs are drawn without
    putting them back, until all were drawn.

    Args:
        seed: The seed.
    """

    def __init__(self, seed: Any):
        self._random = np.random.default_rng(seed)
        self._drawn: dict[int, set[int]] = {}

    def normal(self) -> float:
        return float(self._random.normal())

    def choice(self, stored: np.ndarray) -> float:
        drawn = self._drawn.setdefault(id(stored), set())
        if len(drawn) == len(stored):
            drawn.clear()
        left = [place for place in range(len(stored)) if place not in drawn]
        place = left[int(self._random.integers(len(left)))]
        drawn.add(place)
        return float(stored[place])


def confirmed(
    task: Task, study: optuna.Study, seed: int, trials: int, repeats: int = 1
) -> float:
    """The regret of the configuration that a search with confirmation returns.

    Args:
        task: The task.
        study: A study without trials, with kopt's sampler, to minimize.
        seed: Seed of the noise.
        trials: How many trials there are, repeats included.
        repeats: How often each of the leading configurations is repeated.
    """
    confirmation = Confirmation(study, repeats)
    noise: Any = Noise([seed, 1])
    while (done := len(found := study.get_trials(deepcopy=False))) < trials:
        missing = confirmation.missing(found)
        if done + len(missing) < trials:
            trial = study.ask()
            study.tell(trial, task.seen(trial, noise))
            continue
        if not missing:
            break
        first = missing[0].first
        again = optuna.trial.create_trial(
            value=task.seen(optuna.trial.FixedTrial(first.params), noise),
            params=first.params,
            distributions=first.distributions,
            user_attrs=missing[0].attributes,
        )
        study.add_trial(again)
    return task.regret(best_first(study)[0].first.params)
