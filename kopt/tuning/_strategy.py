"""What a sampler and a way of stopping are, in the words of a user."""

from __future__ import annotations

import abc
import inspect
from typing import Any

import numpy as np


class _Described:
    """An object that shows the arguments it was made with."""

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({shown})"


class SamplerStrategy(_Described, abc.ABC):
    """What chooses the configurations of a search."""

    @abc.abstractmethod
    def sampler(self, seed: int = 0, place: int = 0) -> Any:
        """The Optuna sampler for one trial.

        Args:
            seed: Seed of the search.
            place: Place of the trial in the search, repetitions not counted. A search
                makes a sampler for each trial, so that it is the same after a restart.
        """


class PrunerStrategy(_Described, abc.ABC):
    """What ends trials that do not look good."""

    @abc.abstractmethod
    def pruner(self, epochs: int, study: Any) -> Any:
        """The Optuna pruner of a search.

        Args:
            epochs: Epochs of a trial that is not stopped.
            study: The study that it is for.
        """


def mixed(seed: int, place: int) -> int:
    """A seed for one trial of a search."""
    return int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
