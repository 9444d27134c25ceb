"""Optuna's Hyperband with brackets that a restart does not change.

Optuna derives a trial's bracket from its number, and a trial that was cut off comes
back under a new one. Where the bracket is chosen has a private name.
"""

from __future__ import annotations

import copy
from typing import Any

from optuna import Study
from optuna.pruners import HyperbandPruner
from optuna.trial import FrozenTrial

from kopt.tuning._trials import records


class PlacedHyperbandPruner(HyperbandPruner):
    """Hyperband whose brackets go by the place of a trial in the search.

    Args:
        study: The study, with the trials of all brackets.
        **arguments: Those of `optuna.pruners.HyperbandPruner`.
    """

    def __init__(self, study: Study, **arguments: Any):
        super().__init__(**arguments)
        self._whole_study = study

    def _get_bracket_id(self, study: Study, trial: FrozenTrial) -> int:
        trials = self._whole_study.get_trials(deepcopy=False)
        if trial.number not in records.counting(trials).values():
            # It was cut off: its repetition is the one that counts.
            return -1
        placed = copy.copy(trial)
        placed.number = records.ordinal(trials, trial)
        return super()._get_bracket_id(study, placed)
