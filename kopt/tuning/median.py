"""Median: stop what is worse than half of the earlier trials."""

from __future__ import annotations

from typing import Any

from kopt import _checks, _extras
from kopt._registry import register
from kopt.tuning._strategy import PrunerStrategy


@register("tuning", serializable=False)
class Median(PrunerStrategy):
    """Stop a trial whose best epoch so far is worse than the median at its epoch.

    Optuna's `MedianPruner`. Gentler than `ASHA`: about half of the trials go on.

    Args:
        startup: Complete trials before the first one is stopped.
        min_epochs: Epochs before a trial can be stopped.

    Example:

    >>> kopt.tuning.Median(min_epochs=3)
    Median(startup=5, min_epochs=3)
    """

    def __init__(self, *, startup: int = 5, min_epochs: int = 1):
        self.startup = _checks.integer("startup", startup, low=1)
        self.min_epochs = _checks.integer("min_epochs", min_epochs, low=1)

    def pruner(self, epochs: int, study: Any) -> Any:
        pruners = _extras.load("optuna.pruners", "tune")
        return pruners.MedianPruner(self.startup, n_warmup_steps=self.min_epochs)
