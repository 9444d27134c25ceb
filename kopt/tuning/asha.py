"""ASHA: asynchronous successive halving."""

from __future__ import annotations

from typing import Any

from kopt import _checks, _extras
from kopt._registry import register
from kopt.tuning._strategy import PrunerStrategy


@register("tuning", serializable=False)
class ASHA(PrunerStrategy):
    """Asynchronous successive halving: Optuna's `SuccessiveHalvingPruner`.

    After 1, 3, 9, ... epochs (with a `factor` of 3) a trial goes on if it is among the
    best third of those that came as far, and is stopped otherwise. What goes on keeps
    its optimizer and its schedule: nothing is trained twice.

    In a search no trial is stopped before the first epoch at which the ranks of the
    first complete trials agree with their final ones.

    L. Li et al., "A System for Massively Parallel Hyperparameter Tuning" (2018),
    arXiv:1810.05934.

    Args:
        factor: One in this many trials goes on at each rung.
        min_epochs: Epochs before the first rung.

    Example:

    >>> kopt.tuning.ASHA(factor=4)
    ASHA(factor=4, min_epochs=1)
    """

    def __init__(self, *, factor: int = 3, min_epochs: int = 1):
        self.factor = _checks.integer("factor", factor, low=2)
        self.min_epochs = _checks.integer("min_epochs", min_epochs, low=1)

    def pruner(self, epochs: int, study: Any) -> Any:
        pruners = _extras.load("optuna.pruners", "tune")
        return pruners.SuccessiveHalvingPruner(
            min_resource=self.min_epochs, reduction_factor=self.factor
        )
