"""What every schedule shares: calling, binding to a run, saving, drawing."""

from __future__ import annotations

import abc
import inspect
import numbers
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from kopt import _checks, _extras


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
    """The constructor arguments that are lengths of time."""

    continuous: ClassVar[bool] = True
    """Whether the curve is free of jumps."""

    @abc.abstractmethod
    def curve(self, step: Any) -> Any:
        """The value at `step`: a pure function, float32 to float32, of any shape."""

    @property
    @abc.abstractmethod
    def peak(self) -> float:
        """The highest value of the curve, the rate that all others refer to."""

    @property
    @abc.abstractmethod
    def duration(self) -> int | None:
        """The step from which the value stays the same; None if it never does."""

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
        return all(isinstance(getattr(self, name), int) for name in self.lengths)

    def bind(self, total_steps: int) -> Self:
        """The same schedule for a run of `total_steps`, without fractions.

        Args:
            total_steps: Length of the run in steps (batches, for Keras optimizers).
        """
        arguments = self._arguments()
        for name in self.lengths:
            arguments[name] = in_steps(arguments[name], total_steps)
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
        if steps is None:
            if not self.bound or not self.duration:
                raise ValueError(
                    f"{self} has no length of its own to draw. Say how long the run "
                    "is: `plot(steps=1000)`."
                )
            steps = self.duration
        steps = _checks.integer("steps", steps, low=1)
        at = np.unique(np.linspace(0, steps, min(steps + 1, 2001)).round())
        if ax is None:
            _, ax = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
        ax.plot(at, self.bind(steps)(at), label=type(self).__name__)
        ax.set(xlabel="step", ylabel="value", xlim=(0, steps))
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        return ax

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

    def _arguments(self) -> dict[str, Any]:
        return {
            name: getattr(self, name)
            for name in inspect.signature(type(self)).parameters
        }


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


def in_steps(value: int | float, total_steps: int, *, low: int = 1) -> int:
    """A length of time as a number of steps in a run of `total_steps`."""
    total_steps = _checks.integer("total_steps", total_steps, low=1)
    return value if isinstance(value, int) else max(low, round(value * total_steps))
