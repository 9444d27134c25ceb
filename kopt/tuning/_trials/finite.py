"""Which values a distribution has, and how many."""

from __future__ import annotations

import math
from typing import Any

from optuna import distributions


def cardinality(distribution: distributions.BaseDistribution) -> int | None:
    """How many values a distribution has; `None` if they are no finite number."""
    if isinstance(distribution, distributions.CategoricalDistribution):
        return len(distribution.choices)
    if distribution.single():
        return 1
    if isinstance(distribution, distributions.IntDistribution):
        return (distribution.high - distribution.low) // distribution.step + 1
    if isinstance(distribution, distributions.FloatDistribution) and distribution.step:
        span = distribution.high - distribution.low
        return math.floor(span / distribution.step + 1e-8) + 1
    return None


def enumerated(distribution: distributions.BaseDistribution) -> list[Any]:
    """The values of a finite distribution, in order."""
    if isinstance(distribution, distributions.CategoricalDistribution):
        return list(distribution.choices)
    low: Any = getattr(distribution, "low")  # noqa: B009 - the base class has none
    step: Any = getattr(distribution, "step", None) or 0
    # What is stored is read back through the distribution's own representation.
    return [
        distribution.to_external_repr(low + place * step)
        for place in range(cardinality(distribution) or 0)
    ]


def contains(distribution: distributions.BaseDistribution, value: Any) -> bool:
    """Whether a value lies in the range of a distribution, steps not looked at."""
    if isinstance(distribution, distributions.CategoricalDistribution):
        return value in distribution.choices
    low: Any = getattr(distribution, "low")  # noqa: B009 - the base class has none
    high: Any = getattr(distribution, "high")  # noqa: B009
    return bool(low <= value <= high)
