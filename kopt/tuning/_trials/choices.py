"""What a search does with the sampler, pruner and configurations that were given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optuna

from kopt.tuning._network import NetworkHyperModel
from kopt.tuning._samplers.auto import Auto
from kopt.tuning._samplers.measured_pruner import MeasuredPruner
from kopt.tuning._trials.confirmation import LEADING, Confirmation
from kopt.tuning._trials.errors import SpaceError
from kopt.tuning._trials.space import Space
from kopt.tuning.budget import Budget
from kopt.tuning.grid import Grid

# What `confirm="auto"` means. Paid from the same budget, one repeat of each of the
# leading three lowers the regret of the answer from about 40 trials on.
AUTO_REPEATS, AUTO_TRIALS = 1, 40


def strategy_of(tuner: Any, space: Space, say: Callable[[str], None]) -> Any:
    """What chooses configurations, with the reason in the log."""
    if tuner.sampler == "auto":
        return Auto(tuner.budget.trials, space, say)
    say(f"{tuner.sampler!r}: as given.")
    if not getattr(tuner.sampler, "is_repeatable", True):
        say(
            "A finished sampler proposes something else after a restart. Give its "
            "class, or a function of a seed."
        )
    return tuner.sampler


def pruner_of(
    tuner: Any, study: optuna.Study, say: Callable[[str], None]
) -> optuna.pruners.BasePruner:
    """What stops trials; nothing if nothing was given."""
    if tuner.pruner is None:
        return optuna.pruners.NopPruner()
    epochs = tuner.task.fit_arguments.get("epochs", 1)
    return MeasuredPruner(tuner.pruner.pruner(epochs, study), say)


def confirmation_of(
    tuner: Any, study: optuna.Study, say: Callable[[str], None]
) -> Confirmation:
    """The repeats that confirm the winner, with the reason in the log."""
    hypermodel, trials = tuner.task.hypermodel, tuner.budget.trials
    repeats, first = tuner.confirm, 0
    if repeats == "auto":
        repeats, first = AUTO_REPEATS, AUTO_TRIALS - LEADING * AUTO_REPEATS
        seed = getattr(hypermodel, "seed", None)
        if isinstance(hypermodel, NetworkHyperModel) and seed is not None:
            say(
                "No confirmation: the hypermodel has a `seed`, so that repeats tell "
                "nothing."
            )
            repeats = 0
        elif trials is not None and trials < AUTO_TRIALS:
            say(
                f"No confirmation: of {trials} trials (fewer than {AUTO_TRIALS}) "
                "repeats would take more than they give."
            )
            repeats = 0
    return Confirmation(study, repeats, first)


def initial_of(tuner: Any, say: Callable[[str], None]) -> Sequence[dict[str, Any]]:
    """The configurations of the first places of a search."""
    hypermodel = tuner.task.hypermodel
    usual = isinstance(hypermodel, NetworkHyperModel)
    if tuner.initial or not usual or tuner.sampler != "auto":
        given: list[dict[str, Any]] = tuner.initial
        return given
    say("The usual configuration of the hypermodel comes first.")
    return [dict(hypermodel.space().values)]


def check_space(space: Space, strategy: Any, budget: Budget, is_whole: bool) -> None:
    """Refuse a space that is empty, or too large for a grid.

    Args:
        space: The space.
        strategy: What chooses configurations.
        budget: The budget of the search.
        is_whole: Whether all names can have been asked for by now.
    """
    if is_whole and not space.names():
        raise SpaceError(
            "The model asks `hp` for nothing that could be searched. Ask it for at "
            'least one value: hp.Float("learning_rate", 1e-4, 1e-1, '
            'sampling="log").'
        )
    if not isinstance(strategy, Grid) or budget.trials is None:
        return
    size = space.size()
    if size is not None and size > budget.trials:
        raise SpaceError(
            f"The grid has {size} configurations, and the budget "
            f"{budget.trials} trials. Raise `trials`, take values out of the "
            "space, or take a sampler that does not need all of them: Random(), "
            "Sobol(), TPE(), Bayesian(). Names that belong to some values of "
            "another name only count less in `hp.conditional_scope(...)`."
        )
