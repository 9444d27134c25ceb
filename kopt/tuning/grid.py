"""Grid: every configuration of a finite space."""

from __future__ import annotations

from typing import Any

from kopt import _extras
from kopt._registry import register
from kopt.tuning._strategy import SamplerStrategy


@register("tuning", serializable=False)
class Grid(SamplerStrategy):
    """Every configuration of a finite space, once, in the order of its values.

    Conditional names are there only where they are active. A search ends when the
    space is exhausted; a space that is larger than the budget is refused after the
    first model is built, and so is a range without a `step`.

    Example:

    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.ERROR)
    >>> study = optuna.create_study(sampler=kopt.tuning.Grid().sampler())
    >>> study.optimize(lambda trial: trial.suggest_int("a", 1, 3), n_trials=3)
    >>> [trial.params["a"] for trial in study.trials]
    [1, 2, 3]
    """

    def sampler(self, seed: int = 0, place: int = 0) -> Any:
        _extras.load("optuna", "tune")
        from kopt.tuning._samplers.grid_sampler import GridSampler

        return GridSampler()
