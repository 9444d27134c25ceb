"""Keras Tuner's `hp`, with values that are asked for when a name is first met.

Keras Tuner draws the values of a trial before the model is built, from the names that
earlier trials have shown. A value can be decided at the moment a name is met, and so
from the first trial on, only where names are registered; that method is private.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras_tuner


class AskedHyperParameters(keras_tuner.HyperParameters):
    """Hyperparameters whose values come from a function.

    Args:
        ask: From an active hyperparameter (Keras Tuner's description of it) to its
            value. Called once for each name that has no value yet.
    """

    def __init__(self, ask: Callable[[Any], Any]):
        super().__init__()
        self.ask = ask

    def meet(self, hyperparameter: Any) -> Any:
        """Ask for the value of a described hyperparameter; `None` if inactive."""
        return self._register(hyperparameter)

    def _register(self, hyperparameter: Any, overwrite: bool = False) -> Any:
        active = self.is_active(hyperparameter)
        if active and hyperparameter.name not in self.values:
            self.values[hyperparameter.name] = self.ask(hyperparameter)
        # Overwriting would put the default in the place of what was asked for.
        return super()._register(hyperparameter, overwrite=False)
