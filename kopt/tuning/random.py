"""Random: independent draws from the space."""

from __future__ import annotations

from typing import Any

from kopt import _extras
from kopt._registry import register
from kopt.tuning._strategy import SamplerStrategy, mixed


@register("tuning", serializable=False)
class Random(SamplerStrategy):
    """Independent draws from the space: Optuna's `RandomSampler`.

    The baseline, and hard to beat where trials run by the hundred at once. In a search
    it draws no configuration twice.

    J. Bergstra and Y. Bengio, "Random Search for Hyper-Parameter Optimization" (2012),
    Journal of Machine Learning Research 13.

    Example:

    >>> kopt.tuning.Random().sampler(seed=1)  # doctest: +ELLIPSIS
    <optuna.samplers._random.RandomSampler object at ...>
    """

    def sampler(self, seed: int = 0, place: int = 0) -> Any:
        samplers = _extras.load("optuna.samplers", "tune")
        return samplers.RandomSampler(seed=mixed(seed, place))
