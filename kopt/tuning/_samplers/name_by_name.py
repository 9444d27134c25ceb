"""What samplers have in common that draw one name after the other."""

from __future__ import annotations

from typing import Any

from optuna import Study, distributions
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial


class NameByName(BaseSampler):
    """A sampler without a space of names that are drawn together."""

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, distributions.BaseDistribution]:
        return {}

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, distributions.BaseDistribution],
    ) -> dict[str, Any]:
        return {}
