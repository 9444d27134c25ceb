"""A sampler that repeats itself after a restart, and never a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from optuna import Study, distributions
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from kopt._keras.optuna_trials import without
from kopt.tuning._samplers.name_by_name import NameByName
from kopt.tuning._samplers.untried import nearest_left
from kopt.tuning._trials import records
from kopt.tuning._trials.finite import contains


class Strategy(Protocol):
    """What makes the sampler of one trial."""

    def sampler(self, seed: int = 0, place: int = 0) -> BaseSampler: ...


class SeededSampler(NameByName):
    """A fresh sampler for each trial, seeded by the trial's place in the search.

    The random state of a sampler is in no storage: one that lives as long as its
    process proposes something else after a restart. The place is counted without the
    repetitions of trials that were cut off, so that an interruption moves nothing.

    Values are drawn name by name, so that one whose configurations were all tried can
    give way to the next. Repeats of a configuration are not shown to the inner sampler.

    Args:
        strategy: What makes the sampler of a trial.
        seed: The seed of the search.
        study: The study. Optuna hands over only a part of it where a pruner sorts
            trials into brackets.
    """

    def __init__(self, strategy: Strategy, seed: int, study: Study):
        self._strategy = strategy
        self._seed = seed
        self._study = study
        self._shown = without(study, records.is_repeat)
        self._inner: BaseSampler | None = None
        self._relative: dict[str, Any] | None = None
        # Values that the user gave to the trial that runs, by name.
        self.fixed: dict[str, Any] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        trials = self._study.get_trials(deepcopy=False)
        place = records.ordinal(trials, trial)
        self._inner = self._strategy.sampler(self._seed, place)
        self._relative = None
        self.fixed = {}
        if not records.is_repeat(trial):
            self._inner.before_trial(self._shown, trial)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: distributions.BaseDistribution,
    ) -> Any:
        if param_name in self.fixed:
            return self.fixed[param_name]
        wanted = self._proposed(trial, param_name, param_distribution)
        trials = self._study.get_trials(deepcopy=False)
        tried = records.tried(trials, but=trial.number)
        return nearest_left(tried, trial.params, param_name, param_distribution, wanted)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        if self._inner is not None and not records.is_repeat(trial):
            self._inner.after_trial(self._shown, trial, state, values)

    def _proposed(
        self,
        trial: FrozenTrial,
        name: str,
        distribution: distributions.BaseDistribution,
    ) -> Any:
        inner = self._inner
        assert inner is not None, "Optuna calls before_trial first"
        if self._relative is None:
            space = inner.infer_relative_search_space(self._shown, trial)
            self._relative = inner.sample_relative(self._shown, trial, space)
        if name in self._relative and contains(distribution, self._relative[name]):
            return self._relative[name]
        return inner.sample_independent(self._shown, trial, name, distribution)
