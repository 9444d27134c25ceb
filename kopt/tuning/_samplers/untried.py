"""What is left of a finite space, from the trials alone.

A space is a tree of decisions: which names there are may depend on earlier values. No
order of names is assumed, since storages do not keep one: a name that all trials of a
branch have is as good a next decision as any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna import distributions
from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._trials import records
from kopt.tuning._trials.finite import cardinality, enumerated


def is_left(trials: Sequence[FrozenTrial], chosen: Mapping[str, Any]) -> bool:
    """Whether some configuration with the chosen values was not tried yet."""
    branch = [trial for trial in trials if _has(trial, chosen)]
    return not branch or not _exhausted(branch, set(chosen))


def nearest_left(
    trials: Sequence[FrozenTrial],
    chosen: Mapping[str, Any],
    name: str,
    distribution: distributions.BaseDistribution,
    wanted: Any,
) -> Any:
    """The value nearest to the wanted one with which something is left to try.

    The wanted value itself where all is left, or nothing. Choices without an order
    are taken in turn, from the wanted one on.
    """
    if is_left(trials, {**chosen, name: wanted}):
        return wanted
    for value in _by_distance(distribution, wanted):
        if is_left(trials, {**chosen, name: value}):
            return value
    return wanted


def _exhausted(branch: list[FrozenTrial], known: set[str]) -> bool:
    # A trial that failed before it had all its names is the end of a branch only if
    # no other trial went further.
    further = [trial for trial in branch if trial.params.keys() - known]
    if not further:
        return any(map(_is_whole, branch))
    name = _common_name(further, known)
    if name is None:
        return False
    distribution = further[0].distributions[name]
    if any(trial.distributions[name] != distribution for trial in further):
        return False
    size = cardinality(distribution)
    if size is None or size > len(further):
        return False
    groups: dict[int, list[FrozenTrial]] = {}
    for trial in further:
        groups.setdefault(_place(distribution, trial.params[name]), []).append(trial)
    known = known | {name}
    return len(groups) == size and all(
        _exhausted(group, known) for group in groups.values()
    )


def _is_whole(trial: FrozenTrial) -> bool:
    """Whether a trial has all its names, as far as it says."""
    is_drawn: bool = trial.user_attrs.get(records.DRAWN, True)
    return is_drawn or trial.state != TrialState.RUNNING


def _common_name(trials: list[FrozenTrial], known: set[str]) -> str | None:
    for name in trials[0].params:
        if name not in known and all(name in trial.params for trial in trials):
            return name
    return None


def _has(trial: FrozenTrial, chosen: Mapping[str, Any]) -> bool:
    for name, value in chosen.items():
        if name not in trial.params:
            return False
        distribution = trial.distributions[name]
        if cardinality(distribution) is None:
            if trial.params[name] != value:
                return False
        elif _place(distribution, trial.params[name]) != _place(distribution, value):
            return False
    return True


def _place(distribution: distributions.BaseDistribution, value: Any) -> int:
    """The place of a value in a finite distribution; floats are never quite equal."""
    internal = distribution.to_internal_repr(value)
    if isinstance(distribution, distributions.CategoricalDistribution):
        return int(internal)
    low: Any = getattr(distribution, "low")  # noqa: B009 - the base class has none
    step: Any = getattr(distribution, "step", None) or 1
    return round((internal - low) / step)


def _by_distance(
    distribution: distributions.BaseDistribution, wanted: Any
) -> Iterator[Any]:
    if cardinality(distribution) is None:
        return
    values = enumerated(distribution)
    place = _place(distribution, wanted)
    if isinstance(distribution, distributions.CategoricalDistribution):
        yield from values[place + 1 :] + values[:place]
        return
    yield from sorted(
        values, key=lambda value: abs(_place(distribution, value) - place)
    )
