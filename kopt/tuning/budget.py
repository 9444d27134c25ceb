"""Budget: how much a search may cost."""

from __future__ import annotations

from kopt import _checks
from kopt._registry import register


@register("tuning", serializable=False)
class Budget:
    """How much a search may cost, over all of its workers and restarts.

    What is reached first ends the search. A search that is started again with the same
    budget does what is left of it; with a larger one it goes on.

    Args:
        minutes: Minutes in which at least one worker has been at work, from the call
            of `tune` on, building included. The deadline holds inside of `fit`: the
            last trial is cut at a batch's end, and no trial is started that would take
            longer than the shortest one did. A trial that was cut by it runs again if
            the search goes on.
        trials: Trials with a score, exactly. Those that a pruner stopped count, those
            that failed do not.
        epochs: Epochs of all trials together. No trial is started that may exceed
            them.
        trial_minutes: Minutes of one trial, which is then stopped at a batch's end. A
            batch that never ends is not noticed.
        refits: Trainings of the best configuration for which a part of `minutes` is
            kept, as long as that of its trial was. `Results.refit(seeds=refits)`,
            called when the search returns, then ends within the minutes too.

    Raises:
        TypeError: If nothing limits the search as a whole, or if `refits` is given
            without `minutes`.
        ValueError: If a limit is not positive.

    Example:

    >>> kopt.tuning.Budget(minutes=30, trials=50)
    Budget(minutes=30, trials=50)
    >>> kopt.tuning.Budget(trials=0)
    Traceback (most recent call last):
        ...
    ValueError: `trials` must be a whole number of at least 1. Received: trials=0.
    """

    def __init__(
        self,
        *,
        minutes: float | None = None,
        trials: int | None = None,
        epochs: int | None = None,
        trial_minutes: float | None = None,
        refits: int | None = None,
    ):
        if minutes is None and trials is None and epochs is None:
            raise TypeError(
                "A budget needs a limit for the whole search: give `minutes`, `trials` "
                "or `epochs`."
            )
        if refits is not None and minutes is None:
            raise TypeError(
                "`refits` keeps a part of the `minutes` of a budget, and it has none. "
                f"Give `minutes` too, or leave it out. Received: refits={refits!r}."
            )
        for name, amount in (("minutes", minutes), ("trial_minutes", trial_minutes)):
            if amount is not None:
                _checks.number(name, amount, low=0, low_open=True)
        for name, count in (
            ("trials", trials),
            ("epochs", epochs),
            ("refits", refits),
        ):
            if count is not None:
                _checks.integer(name, count, low=1)
        self.minutes = minutes
        self.trials = trials
        self.epochs = epochs
        self.trial_minutes = trial_minutes
        self.refits = refits

    def __repr__(self) -> str:
        given = {name: value for name, value in vars(self).items() if value is not None}
        return f"Budget({', '.join(f'{name}={one!r}' for name, one in given.items())})"
