"""TPE: the tree-structured Parzen estimator."""

from __future__ import annotations

import warnings
from typing import Any

from kopt import _checks, _extras
from kopt._registry import register
from kopt.tuning._strategy import SamplerStrategy, mixed


@register("tuning", serializable=False)
class TPE(SamplerStrategy):
    """The tree-structured Parzen estimator: Optuna's `TPESampler`, set for Keras.

    It models which values good trials have and bad ones have not. Names are modelled
    together (multivariate), those of different conditional scopes apart (grouped).
    Takes any space, and thousands of trials; pruned trials count as what they are.

    J. Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (2011), NeurIPS;
    S. Watanabe, "Tree-Structured Parzen Estimator" (2023), arXiv:2304.11127.

    Args:
        startup: Random trials before the first model.

    Example:

    >>> kopt.tuning.TPE().sampler(seed=1)  # doctest: +ELLIPSIS
    <optuna.samplers._tpe.sampler.TPESampler object at ...>
    """

    def __init__(self, *, startup: int = 10):
        self.startup = _checks.integer("startup", startup, low=1)

    def sampler(self, seed: int = 0, place: int = 0) -> Any:
        optuna = _extras.load("optuna", "tune")
        with warnings.catch_warnings():
            # Optuna calls groups experimental; without them conditional names are
            # drawn one by one.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                n_startup_trials=self.startup, group=True, seed=mixed(seed, place)
            )
