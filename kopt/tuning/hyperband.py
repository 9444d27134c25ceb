"""Hyperband: successive halving with several first rungs."""

from __future__ import annotations

from typing import Any

from kopt import _checks, _extras
from kopt._registry import register
from kopt.tuning._strategy import PrunerStrategy


@register("tuning", serializable=False)
class Hyperband(PrunerStrategy):
    """Successive halving with several first rungs: Optuna's `HyperbandPruner`.

    Where it is not known whether early epochs tell anything, some trials are judged
    early and some late: each belongs to one of several brackets. The bracket follows
    from the place of a trial in the search, so that it is the same after a restart.
    Unlike Keras Tuner's, a trial that goes on keeps its optimizer and its schedule.

    L. Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter
    Optimization" (2016), arXiv:1603.06560.

    Args:
        factor: One in this many trials of a bracket goes on at each rung.
        min_epochs: Epochs before the first rung of the earliest bracket.

    Example:

    >>> kopt.tuning.Hyperband()
    Hyperband(factor=3, min_epochs=1)
    """

    def __init__(self, *, factor: int = 3, min_epochs: int = 1):
        self.factor = _checks.integer("factor", factor, low=2)
        self.min_epochs = _checks.integer("min_epochs", min_epochs, low=1)

    def pruner(self, epochs: int, study: Any) -> Any:
        _extras.load("optuna", "tune")
        from kopt.tuning._samplers.hyperband_pruner import PlacedHyperbandPruner

        return PlacedHyperbandPruner(
            study,
            min_resource=self.min_epochs,
            max_resource=max(epochs, self.min_epochs),
            reduction_factor=self.factor,
        )
