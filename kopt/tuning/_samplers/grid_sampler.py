"""The configurations of a finite space, one after the other."""

from __future__ import annotations

from typing import Any

from optuna import Study, distributions
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from kopt.tuning._samplers.name_by_name import NameByName
from kopt.tuning._samplers.untried import nearest_left
from kopt.tuning._trials import records
from kopt.tuning._trials.errors import SpaceError
from kopt.tuning._trials.finite import cardinality, enumerated


class GridSampler(NameByName):
    """The first configuration that was not tried yet, in the order of the values.

    Optuna's `GridSampler` has to be told the whole space beforehand, and has no
    conditional names. Its `BruteForceSampler` fails on a trial that was cut off before
    it had asked for all of its names, and takes such a trial for tried.

    Args:
        beyond: What draws names without a finite number of values. Without it they are
            an error.
    """

    def __init__(self, beyond: BaseSampler | None = None):
        self._beyond = beyond

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: distributions.BaseDistribution,
    ) -> Any:
        if cardinality(param_distribution) is None:
            if self._beyond is not None:
                return self._beyond.sample_independent(
                    study, trial, param_name, param_distribution
                )
            raise SpaceError(
                f"A grid needs a finite number of values. The hyperparameter "
                f"{param_name!r} has none: {param_distribution}. Give it a `step=` (a "
                "factor above 1 with `sampling='log'`), or take another sampler."
            )
        trials = study.get_trials(deepcopy=False)
        return nearest_left(
            records.tried(trials, but=trial.number),
            trial.params,
            param_name,
            param_distribution,
            enumerated(param_distribution)[0],
        )
