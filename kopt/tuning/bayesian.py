"""Bayesian: expected improvement over a Gaussian process."""

from __future__ import annotations

from typing import Any

from kopt import _checks, _extras
from kopt._registry import register
from kopt.tuning._strategy import SamplerStrategy


@register("tuning", serializable=False)
class Bayesian(SamplerStrategy):
    """Expected improvement over a Gaussian process, for up to a few hundred trials.

    Matern covariance of smoothness 5/2 with a length scale for each name; choices
    without an order differ or do not; names of inactive scopes count as absent. The
    model sees the ranks of the scores, so that a diverged trial does not bend it. Of
    pruned trials it takes that they were no better than the median, never the score
    they were pruned with. NumPy and SciPy do the work; PyTorch is not needed.

    J. Snoek, H. Larochelle and R. P. Adams, "Practical Bayesian Optimization of Machine
    Learning Algorithms" (2012), arXiv:1206.2944; S. Ament et al., "Unexpected
    Improvements to Expected Improvement for Bayesian Optimization" (2023),
    arXiv:2310.20708.

    Args:
        startup: Sobol points before the first model.

    Example:

    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
    >>> study = optuna.create_study(sampler=kopt.tuning.Bayesian().sampler(seed=1))
    >>> study.optimize(lambda t: (t.suggest_float("x", 0, 9) - 7) ** 2, n_trials=20)
    >>> round(study.best_params["x"], 1)
    7.0
    """

    def __init__(self, *, startup: int = 6):
        self.startup = _checks.integer("startup", startup, low=2)

    def sampler(self, seed: int = 0, place: int = 0) -> Any:
        _extras.load("optuna", "tune")
        from kopt.tuning._samplers.bayesian_sampler import BayesianSampler
        from kopt.tuning._samplers.sobol_sampler import SobolSampler

        before = SobolSampler(seed)
        return BayesianSampler(seed, self.startup, before)
