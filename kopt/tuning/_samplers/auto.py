"""The rule behind `sampler="auto"`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kopt.tuning._samplers.grid_sampler import GridSampler
from kopt.tuning._strategy import SamplerStrategy
from kopt.tuning._trials.space import Space
from kopt.tuning.bayesian import Bayesian
from kopt.tuning.sobol import Sobol
from kopt.tuning.tpe import TPE

_TOO_FEW_TO_MODEL = 8


class Auto(SamplerStrategy):
    """Chooses a sampler for each trial, and says why.

    Grid where the space is no larger than the budget; Sobol points where the budget
    has fewer than 8 trials; otherwise Bayesian and TPE by turns over one history. Of
    these neither wins everywhere: the Gaussian process is ahead on numbers, TPE on
    choices without an order, and by turns each starts from what the other has found.

    Args:
        trials: Trials of the budget; `None` if it does not limit them.
        space: The space as far as it is known: from the moment on at which a trial has
            asked for all of its names, but for those of branches that none has taken.
        say: Takes a line of text for the log of the search.
    """

    def __init__(
        self, trials: int | None, space: Space, say: Callable[[str], None]
    ) -> None:
        self.trials = trials
        self.space = space
        self.say = say

    def sampler(self, seed: int = 0, place: int = 0) -> Any:
        return self._chosen(place).sampler(seed, place)

    def _chosen(self, place: int) -> SamplerStrategy:
        if place == 0 or not self.space.is_known():
            return Sobol()
        size = self.space.size()
        if self.trials is not None:
            if size is not None and size <= self.trials:
                self.say(
                    f"Grid: the space has {size} configurations, no more than the "
                    f"budget of {self.trials} trials."
                )
                return _GridSoFar()
            if self.trials < _TOO_FEW_TO_MODEL:
                self.say(
                    f"Sobol: {self.trials} trials are too few for a model of the "
                    f"scores (fewer than {_TOO_FEW_TO_MODEL})."
                )
                return Sobol()
        self.say(
            "Bayesian and TPE by turns: "
            + (
                "the space has no finite number of configurations."
                if size is None
                else f"the space has {size} configurations."
            )
        )
        return Bayesian() if place % 2 else TPE()


class _GridSoFar(SamplerStrategy):
    """A grid of a space that may turn out to be larger, or endless, as it goes on."""

    def sampler(self, seed: int = 0, place: int = 0) -> Any:
        return GridSampler(beyond=Sobol().sampler(seed, place))
