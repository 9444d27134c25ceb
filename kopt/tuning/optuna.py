"""Optuna: any sampler and pruner of Optuna in a search of Keras models."""

from __future__ import annotations

import copy
from typing import Any

from kopt._registry import register
from kopt.tuning._strategy import PrunerStrategy, SamplerStrategy, mixed


@register("tuning", serializable=False)
class Optuna(SamplerStrategy, PrunerStrategy):
    """Any sampler and any pruner of Optuna.

    Args:
        sampler: A function of a seed that makes a sampler, such as the sampler's own
            class: each trial then has a seed of its own, and a restart changes
            nothing. (One exception: what a sampler notes in the study while it draws,
            as NSGA-II does with the parents of a generation, is not drawn again for a
            trial that was cut off.) A finished sampler works too, but proposes
            something else after a restart, since its random state is in no storage.
        pruner: A pruner of Optuna. It sees an objective value for each epoch, under
            the number of epochs that are done.

    Raises:
        TypeError: If neither is given.

    Example:

    >>> import optuna
    >>> how = kopt.tuning.Optuna(
    ...     sampler=lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    ...     pruner=optuna.pruners.PercentilePruner(25.0),
    ... )
    >>> type(how.sampler(seed=1)).__name__
    'NSGAIISampler'
    """

    def __init__(self, sampler: Any = None, pruner: Any = None):
        if sampler is None and pruner is None:
            raise TypeError(
                "`Optuna` needs a `sampler` or a `pruner`, such as "
                "Optuna(sampler=lambda seed: optuna.samplers.NSGAIISampler(seed=seed))."
            )
        self.given_sampler = sampler
        self.given_pruner = pruner

    def __repr__(self) -> str:
        return f"Optuna(sampler={self.given_sampler!r}, pruner={self.given_pruner!r})"

    @property
    def is_repeatable(self) -> bool:
        """Whether the sampler is made anew for each trial."""
        return callable(self.given_sampler)

    def sampler(self, seed: int = 0, place: int = 0) -> Any:
        if not callable(self.given_sampler):
            return self.given_sampler
        if isinstance(self.given_sampler, type):
            return self.given_sampler(seed=mixed(seed, place))
        return self.given_sampler(mixed(seed, place))

    def pruner(self, epochs: int, study: Any) -> Any:
        return copy.deepcopy(self.given_pruner)
