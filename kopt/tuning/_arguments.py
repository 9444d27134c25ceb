"""What a user may write for a model, an objective, a sampler and a pruner."""

from __future__ import annotations

import sys
from typing import Any

import keras
import keras_tuner

from kopt import _checks, _registry
from kopt.tuning._network import NetworkHyperModel
from kopt.tuning._strategy import PrunerStrategy, SamplerStrategy
from kopt.tuning.budget import Budget
from kopt.tuning.from_predictions import FromPredictions
from kopt.tuning.metric_direction import objective as known_objective
from kopt.tuning.optuna import Optuna


class _Built(keras_tuner.HyperModel):
    """A hypermodel around a function of `hp`."""

    def __init__(self, function: Any):
        self.function = function
        super().__init__()

    def build(self, hp: Any) -> Any:
        return self.function(hp)


def hypermodel_of(model_or_build: Any) -> keras_tuner.HyperModel:
    """A hypermodel from a hypermodel or a function of `hp`."""
    if isinstance(model_or_build, keras_tuner.HyperModel):
        return model_or_build
    if isinstance(model_or_build, keras.Model):
        raise TypeError(
            "`model_or_build` is a finished model, which has nothing to be chosen. "
            "Give a function that builds it and asks `hp` for what is to be searched: "
            'def build(hp): ... keras.layers.Dense(hp.Int("units", 8, 64)) ...'
        )
    if isinstance(model_or_build, type) or not callable(model_or_build):
        raise TypeError(
            "`model_or_build` must be a function of `hp` that returns a compiled "
            f"model, or a keras_tuner.HyperModel. Received: {model_or_build!r}."
        )
    return _Built(model_or_build)


def objective_of(given: Any) -> keras_tuner.Objective:
    """An objective with its direction."""
    if isinstance(given, str):
        return known_objective(given)
    if isinstance(given, FromPredictions):
        return given
    if isinstance(given, keras_tuner.Objective) and given.direction:
        return known_objective(given.name, given.direction)
    raise TypeError(
        "`objective` must be the name of one metric as `fit` logs it, such as "
        "'val_accuracy', kopt.tuning.objective(name, direction) or "
        "kopt.tuning.FromPredictions(function, direction=...). "
        f"Received: objective={given!r}."
    )


def sampler_of(given: Any) -> Any:
    """A sampler strategy, or "auto"."""
    if given == "auto":
        return given
    if isinstance(given, str):
        given = _registry.get("tuning", given)
    if _is_from_optuna(given, "samplers", "BaseSampler"):
        given = Optuna(sampler=given)
    has_none = isinstance(given, Optuna) and given.given_sampler is None
    if not isinstance(given, SamplerStrategy) or has_none:
        raise TypeError(
            "`sampler` must be 'auto' or one of kopt.tuning's: Grid(), Random(), "
            "Sobol(), TPE(), Bayesian(), Optuna(sampler=...). "
            f"Received: sampler={given!r}."
        )
    return given


def pruner_of(given: Any, sampler: Any) -> Any:
    """A pruner strategy, or nothing; that of the sampler where it brings one."""
    if given is None and isinstance(sampler, Optuna) and sampler.given_pruner:
        return sampler
    if given is None:
        return None
    if isinstance(given, str):
        given = _registry.get("tuning", given)
    if _is_from_optuna(given, "pruners", "BasePruner"):
        given = Optuna(pruner=given)
    has_none = isinstance(given, Optuna) and given.given_pruner is None
    if not isinstance(given, PrunerStrategy) or has_none:
        raise TypeError(
            "`pruner` must be None or one of kopt.tuning's: ASHA(), Hyperband(), "
            f"Median(), Optuna(pruner=...). Received: pruner={given!r}."
        )
    return given


def confirm_of(given: Any, budget: Budget, hypermodel: Any) -> Any:
    """How often leading configurations are repeated, or "auto"."""
    if given == "auto":
        return given
    repeats = _checks.integer(
        "confirm", given, low=0, hint='Give how often, 0 for never, or "auto".'
    )
    if repeats and isinstance(hypermodel, NetworkHyperModel):
        if hypermodel.seed is not None:
            raise ValueError(
                "`confirm` repeats trials with fresh seeds, and the hypermodel has "
                f"one of its own: seed={hypermodel.seed}. Leave its `seed` out (each "
                "trial of a search has one), or give confirm=0."
            )
    kept = 3 * repeats
    if budget.trials is not None and budget.trials < kept + 2 and repeats:
        raise ValueError(
            f"`confirm` must leave at least 2 trials of the budget to the search: "
            f"three configurations, each repeated {repeats} times, are {kept} trials. "
            f"Received: confirm={repeats} with trials={budget.trials}. Raise `trials`, "
            "or give a smaller `confirm`."
        )
    return repeats


def _is_from_optuna(thing: Any, module: str, base: str) -> bool:
    # Whoever has an object of Optuna has imported it.
    optuna = sys.modules.get(f"optuna.{module}")
    return optuna is not None and isinstance(thing, getattr(optuna, base))
