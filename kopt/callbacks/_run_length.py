"""How long the run of a schedule is: in batches, in epochs or in minutes."""

from __future__ import annotations

from typing import Any

import keras

from kopt import _checks
from kopt._keras.callbacks_beside import callbacks_beside
from kopt.callbacks.batch_size_ramp import BatchSizeRamp
from kopt.schedules import Schedule, Warmup

# How many steps rounding may add to parts that together are as long as a run.
_ROUNDED = 10


def check(
    schedule: Any, total_steps: int | None, epochs: int | None, minutes: float | None
) -> None:
    """Refuse lengths out of range, more than one, and a time where steps are counted.

    Raises:
        TypeError: If a length is not a number.
        ValueError: Else.
    """
    lengths = {"total_steps": total_steps, "epochs": epochs, "minutes": minutes}
    given = {name: value for name, value in lengths.items() if value is not None}
    for name, value in given.items():
        if name == "minutes":
            _checks.number(name, value, low=0.0, low_open=True)
        else:
            _checks.integer(name, value, low=1)
    if len(given) > 1:
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in given)} both say how long the run "
            f"is. Received: {given}. Give one of them."
        )
    if minutes is None or (
        isinstance(schedule, Schedule) and not schedule.counts_steps
    ):
        return
    raise ValueError(
        "`minutes` needs a schedule of kopt.schedules whose lengths are all fractions "
        "of the run, for it is not known how many steps there will be. Received: "
        f"schedule={schedule!r}. Write kopt.schedules.Cosine(0.001, steps=1.0), where "
        "1.0 is the whole run."
    )


def bound(schedule: Any, total_steps: int) -> Schedule:
    """A schedule for a run of `total_steps`, or 0 where that is not known.

    Raises:
        ValueError: If it has to be known, or if the schedule has fractions of the run
            and parts in steps that leave no room for them.
    """
    if not isinstance(schedule, Schedule):
        return Warmup(schedule, steps=0)
    if schedule.bound:
        return schedule
    if total_steps:
        found = schedule.bind(total_steps)
        if (found.duration or 0) > total_steps + _ROUNDED:
            raise ValueError(
                f"{schedule} exceeds the run: with its fractions of {total_steps} "
                f"steps it is {found.duration} steps long. Write the parts that are "
                "numbers of steps as fractions too, or train for longer."
            )
        return found
    raise ValueError(
        f"{schedule} counts in fractions of the run, and Keras does not know how many "
        "batches an epoch of this data has. Pass `steps_per_epoch` to fit (with a "
        "dataset that repeats), give the dataset its length with "
        "`tf.data.experimental.assert_cardinality`, or pass `total_steps` to "
        "FitSchedule."
    )


def starts(callback: keras.callbacks.Callback, epochs: int | None) -> list[int] | None:
    """The first steps of epochs that are not equally long, else `None`."""
    for other in callbacks_beside(callback) if epochs else []:
        if isinstance(other, BatchSizeRamp):
            return other.starts(epochs or 0)
    return None
