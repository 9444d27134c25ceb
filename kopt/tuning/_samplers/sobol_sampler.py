"""Sobol points over a space whose names are found out on the way."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from optuna import Study, distributions
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from kopt.tuning._samplers.name_by_name import NameByName
from kopt.tuning._samplers.unit import from_unit
from kopt.tuning._trials import records

# Points have this many coordinates, used or not: the coordinates of one name must not
# depend on how many names there are.
_COORDINATES = 64


class SobolSampler(NameByName):
    """The points of a scrambled Sobol sequence, by the place of a trial in its study.

    Each name has a coordinate of its own, by the order in which the study has met
    them. Optuna's `QMCSampler` draws the first trial and all choices without an order
    at random, and counts its points in the study, repeated trials included.

    Args:
        seed: Seed of the scrambling.
    """

    def __init__(self, seed: int):
        self._seed = seed

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: distributions.BaseDistribution,
    ) -> Any:
        place = records.ordinal(study.get_trials(deepcopy=False), trial)
        met = [entry["key"] for entry in study.user_attrs.get(records.SPACE, [])]
        known = param_name in met
        coordinate = met.index(param_name) if known else len(trial.params)
        point = _point(self._seed, place)[coordinate % _COORDINATES]
        return from_unit(param_distribution, point)


@functools.lru_cache(maxsize=8)
def _point(seed: int, place: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    sequence = qmc.Sobol(_COORDINATES, scramble=True, rng=random)
    if place:
        sequence.fast_forward(place)
    return sequence.random(1)[0]
