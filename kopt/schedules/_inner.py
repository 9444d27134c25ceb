"""What stands inside of another schedule: a number, a kopt schedule or one of Keras."""

from __future__ import annotations

from typing import Any, TypeAlias

import keras
from keras import ops

from kopt import _checks
from kopt.schedules._base import Schedule

Inner: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule


def checked(name: str, value: Any) -> Inner:
    """A number of at least 0, as a float, or a schedule as it is."""
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return value
    return _checks.number(
        name, value, low=0.0, hint="Or pass a learning rate schedule."
    )


def curve_of(inner: Inner, step: Any) -> Any:
    """The values at `step`, float32 to float32, of any shape."""
    if isinstance(inner, Schedule):
        return inner.curve(step)
    if isinstance(inner, float):
        return ops.full_like(step, inner)
    # Keras's schedules take one step at a time: some of them branch on it.
    if len(step.shape):
        return ops.cast(ops.map(inner, step), "float32")
    return ops.cast(inner(step), "float32")


def is_bound(inner: Inner) -> bool:
    """Whether it can be evaluated without the length of the run."""
    return not isinstance(inner, Schedule) or inner.bound


def counts_steps(inner: Inner) -> bool:
    """Whether a part of it takes as many steps however long the run is."""
    if isinstance(inner, Schedule):
        return inner.counts_steps
    return not isinstance(inner, float)


def bind(inner: Inner, total_steps: int) -> Inner:
    """The same without fractions, for a stretch of at least one step."""
    return inner.bind(max(1, total_steps)) if isinstance(inner, Schedule) else inner


def peak_of(inner: Inner) -> float:
    """Its highest value; of one of Keras's schedules, the value at its step 0."""
    if isinstance(inner, Schedule):
        return inner.peak
    return inner if isinstance(inner, float) else float(inner(0))


def duration_of(inner: Inner) -> int | None:
    """The step from which its value stays the same, where that is known."""
    return 0 if isinstance(inner, float) else getattr(inner, "duration", None)


def is_continuous(inner: Inner) -> bool:
    """Whether it is free of jumps, as far as is known."""
    return inner.continuous if isinstance(inner, Schedule) else True
