"""The list of laws, and how two trainings are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.generated.training import Record, Situation, Training

LAWS: dict[str, Law] = {}


@dataclass(frozen=True)
class Law:
    """Something that holds in every situation.

    Args:
        name: The name of the function, a sentence.
        check: Takes a situation and raises an `AssertionError` where the law is broken.
        situations: Draws what the law is about.
        quick: How many situations a plain test run tries.
    """

    name: str
    check: Callable[[Any], None]
    situations: st.SearchStrategy[Any]
    quick: int


def law(
    situations: st.SearchStrategy[Any], quick: int = 4
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Enter a function in the list of laws."""

    def enter(check: Callable[[Any], None]) -> Callable[[Any], None]:
        LAWS[check.__name__] = Law(check.__name__, check, situations, quick)
        return check

    return enter


def run(situation: Situation, **arguments: Any) -> list[Record]:
    return Training(situation, **arguments).run()


#: What rounding may do in a few steps, relative to weights of about 1. Keras's losses
#: are float32 under every policy, so gradients in float64 are no better than that.
ROUNDING = {"float32": 2e-5, "float64": 1e-6}
#: How far a training may go apart by what it makes of differences in rounding.
AMPLIFIED = 100
#: Keras averages losses in float32, in whatever type a model computes.
LOSSES = 2.5e-7


def assert_same(
    one: list[Record], other: list[Record], situation: Situation, exact: bool = False
) -> None:
    """Compare two trainings after every event of their stories.

    Where they differ by more than rounding, the situation may be one that makes much
    of little: a gradient of zero that rounding has made a number, in a method that
    divides by its size. How much it makes of a nudge in the last place is measured
    then, and allowed for.
    """
    worst, where = apart(one, other, 0.0 if exact else LOSSES)
    if exact:
        assert worst == 0, (
            f"{where} differs by {worst:.2g}, to the last bit it is the same"
        )
        return
    policy = situation.model.policy
    limit = ROUNDING.get(policy, 2e-2)
    if worst > limit:
        nudge = {"float64": 1e-15}.get(policy, 1e-7 if policy == "float32" else 4e-3)
        plain, nudged = run(situation), run(situation, nudge=nudge)
        limit = max(limit, AMPLIFIED * apart(plain, nudged)[0])
    assert worst <= limit, (
        f"{where} differs by {worst:.2g}, rounding explains {limit:.2g}"
    )


def apart(
    one: list[Record], other: list[Record], losses: float = 0.0
) -> tuple[float, str]:
    """The largest difference between two trainings, and where it is.

    Losses that are no further apart than `losses` count as the same.
    """
    worst, where = 0.0, "nothing"
    for place, (a, b) in enumerate(zip(one, other, strict=True)):
        at = f"after event {place}, {a.event},"
        for (name, x), y in zip(a.weights.items(), b.weights.values(), strict=True):
            distance = difference(x, y)
            if distance > worst:
                worst, where = distance, f"{name} {at}"
        for x, y in zip(a.losses, b.losses, strict=True):
            distance = difference(np.array(x), np.array(y))
            if distance > max(worst, losses):
                worst, where = distance, f"the loss {at}"
    return worst, where


def difference(x: np.ndarray, y: np.ndarray) -> float:
    """The largest difference, relative to the larger of 1 and the values."""
    if x.shape != y.shape:
        return float("inf")
    if not x.size:
        return 0.0
    both_lost = np.isnan(x) & np.isnan(y)
    with np.errstate(invalid="ignore"):
        distance = np.abs(x - y) / np.maximum(1, np.abs(y))
    distance = np.where(both_lost | (x == y), 0.0, distance)
    return float(np.max(np.where(np.isnan(distance), np.inf, distance)))
