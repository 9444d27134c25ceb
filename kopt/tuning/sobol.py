"""Sobol: points that cover the space evenly."""

from __future__ import annotations

from typing import Any

from kopt import _extras
from kopt._registry import register
from kopt.tuning._strategy import SamplerStrategy


@register("tuning", serializable=False)
class Sobol(SamplerStrategy):
    """Points of a scrambled Sobol sequence, which cover the space evenly.

    For a handful of trials: they lie farther apart than random ones. Each name has a
    coordinate of its own, choices without an order and conditional names included.

    S. Joe and F. Y. Kuo, "Constructing Sobol sequences with better two-dimensional
    projections" (2008), SIAM Journal on Scientific Computing 30.

    Example:

    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
    >>> study = optuna.create_study(sampler=kopt.tuning.Sobol().sampler())
    >>> study.optimize(lambda trial: trial.suggest_float("rate", 0, 1), n_trials=4)
    >>> drawn = [trial.params["rate"] for trial in study.trials]
    >>> sorted(int(4 * rate) for rate in drawn)  # one in each quarter
    [0, 1, 2, 3]
    """

    def sampler(self, seed: int = 0, place: int = 0) -> Any:
        _extras.load("optuna", "tune")
        from kopt.tuning._samplers.sobol_sampler import SobolSampler

        return SobolSampler(seed)
