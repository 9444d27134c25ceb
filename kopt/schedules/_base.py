"""What every schedule shares: calling, binding to a run, saving, drawing."""

from __future__ import annotations

import abc
import inspect
import itertools
import numbers
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from kopt import _checks, _extras, _text_table


class Schedule(keras.optimizers.schedules.LearningRateSchedule, abc.ABC):
    """A curve over the steps of a run, usable as any optimizer's `learning_rate`.

    A new schedule is its formula: it stores each constructor argument under the
    argument's name and writes `curve`, `peak`, `duration` and `examples`. Calling,
    `get_config`, `bind` and `plot` follow from these.

    Lengths of time (the arguments named in `lengths`) are whole numbers of steps, or
    floats, which are fractions of the run. A schedule with fractions has to be bound
    to a run before it can be evaluated; `kopt.callbacks.FitSchedule` does that.
    """

    lengths: ClassVar[tuple[str, ...]] = ()
    """The constructor arguments that are lengths of time, tuples of them, or None."""

    shares: ClassVar[tuple[str, ...]] = ()
    """Arguments that are numbers of steps, or floats, shares of the schedule itself."""

    @abc.abstractmethod
    def curve(self, step: Any) -> Any:
        """The value at `step`: a pure function, float32 to float32, of any shape."""

    @property
    @abc.abstractmethod
    def peak(self) -> float:
        """What no value of the curve exceeds, the rate that all others refer to."""

    @property
    @abc.abstractmethod
    def duration(self) -> int | None:
        """The step from which the value stays the same; None if it never does."""

    @property
    def continuous(self) -> bool:
        """Whether the curve is free of jumps."""
        return True

    @classmethod
    @abc.abstractmethod
    def examples(cls) -> tuple[Self, ...]:
        """A few short schedules of this class that show what it can do."""

    def __call__(self, step: Any) -> Any:
        """The value at `step` as a float32 tensor of the shape of `step`.

        Args:
            step: A number, array, tensor or `keras.Variable`.

        Raises:
            ValueError: If a length is still a fraction of a run.
        """
        if not self.bound:
            raise ValueError(
                f"{self} counts in fractions of the run, and the length of the run is "
                "not known here. Give the optimizer a float and pass the schedule to "
                "`kopt.callbacks.FitSchedule`, which takes the length from `fit`; or "
                "bind it yourself: `schedule.bind(total_steps)`."
            )
        return self.curve(ops.cast(step, "float32"))

    @property
    def bound(self) -> bool:
        """Whether all lengths are numbers of steps."""
        return all(
            not isinstance(part, float)
            for name in self.lengths
            for part in _parts(getattr(self, name))
        )

    @property
    def counts_steps(self) -> bool:
        """Whether a part of the curve takes as many steps however long the run is."""
        return any(
            isinstance(part, int) and part > 0
            for name in (*self.lengths, *self.shares)
            for part in _parts(getattr(self, name))
        )

    def bind(self, total_steps: int) -> Self:
        """The same schedule for a run of `total_steps`, without fractions.

        Args:
            total_steps: Length of the run in steps (batches, for Keras optimizers).
        """
        _checks.integer("total_steps", total_steps, low=1)
        arguments = self._arguments()
        for name in self.lengths:
            value = arguments[name]
            bound = tuple(in_steps(part, total_steps) for part in _parts(value))
            if value is not None:
                arguments[name] = bound if isinstance(value, tuple) else bound[0]
        return type(self)(**arguments)

    def plot(self, steps: int | None = None, ax: Any = None) -> Any:
        """Draw the curve with matplotlib.

        Args:
            steps: Length of the run to draw, to which fractions are bound. By default
                the schedule's own duration.
            ax: The matplotlib `Axes` to draw into. By default those of a new figure.

        Returns:
            The `Axes`, to save (`ax.figure.savefig(path)`) or to draw more into.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If `steps` is left out and the schedule has no duration.
        """
        pyplot = _extras.load("matplotlib.pyplot", "plot")
        steps = self._length_to_show("plot", steps)
        at = np.unique(np.linspace(0, steps, min(steps + 1, 2001)).round())
        if ax is None:
            _, ax = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
        ax.plot(at, self.bind(steps)(at), label=type(self).__name__)
        ax.set(xlabel="step", ylabel="value", xlim=(0, steps))
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        return ax

    def table(self, steps: int | None = None, rows: int = 11) -> str:
        """The values at evenly spaced steps, as text to print.

        Args:
            steps: Length of the run to show, to which fractions are bound. By default
                the schedule's own duration.
            rows: How many steps, from the first to the one after the last. At least 2;
                fewer where the run has not so many. Defaults to `11`.

        Raises:
            ValueError: If `steps` is left out and the schedule has no duration.
        """
        steps = self._length_to_show("table", steps)
        rows = _checks.integer("rows", rows, low=2)
        at = np.unique(np.linspace(0, steps, rows).round())
        values = np.asarray(self.bind(steps)(at))
        lines = [("step", "of the run", "value")]
        for step, value in zip(at, values, strict=True):
            lines.append((f"{step:.0f}", f"{step / steps:.0%}", f"{value:.6g}"))
        return _text_table.table(lines, left=())

    def get_config(self) -> dict[str, Any]:
        return {
            name: keras.saving.serialize_keras_object(value)
            for name, value in self._arguments().items()
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**keras.saving.deserialize_keras_object(config))

    def __repr__(self) -> str:
        listed = ", ".join(f"{k}={v!r}" for k, v in self._arguments().items())
        return f"{type(self).__name__}({listed})"

    def _length_to_show(self, method: str, steps: int | None) -> int:
        if steps is None and self.bound and self.duration:
            return self.duration
        if steps is None:
            raise ValueError(
                f"{self} has no length of its own to show. Say how long the run is: "
                f"`{method}(steps=1000)`."
            )
        return _checks.integer("steps", steps, low=1)

    def _arguments(self) -> dict[str, Any]:
        return {
            name: getattr(self, name)
            for name in inspect.signature(type(self)).parameters
        }


def _parts(value: Any) -> tuple[Any, ...]:
    """The lengths that an argument has: its own, several, or none."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def length(name: str, value: Any, *, low: int = 1) -> int | float:
    """A checked length of time: a whole number of steps or a fraction of the run."""
    if isinstance(value, numbers.Integral):
        return _checks.integer(name, value, low=low)
    return _checks.number(
        name,
        value,
        low=0.0,
        high=1.0,
        low_open=low > 0,
        hint="A float is a fraction of the run. Write a number of steps as a whole "
        f"number: {name}=1000.",
    )


def increasing(
    name: str, values: Any, check: Callable[[str, Any], int | float]
) -> tuple[int | float, ...]:
    """Checked lengths of time, each of which is longer than the one before."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(
            f"`{name}` must be a list of steps. Received: {name}={values!r}."
        )
    checked = tuple(check(f"{name}[{i}]", value) for i, value in enumerate(values))
    for one, next_one in itertools.pairwise(checked):
        if isinstance(one, int) == isinstance(next_one, int) and next_one <= one:
            raise ValueError(
                f"`{name}` must increase. Received: {name}={checked}. Sort them, and "
                "leave out what is there twice."
            )
    return checked


def in_steps(value: int | float, total_steps: int, *, low: int = 1) -> int:
    """A length of time as a number of steps in a run of `total_steps`."""
    total_steps = _checks.integer("total_steps", total_steps, low=1)
    return value if isinstance(value, int) else max(low, round(value * total_steps))
