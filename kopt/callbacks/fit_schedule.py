from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from kopt._keras.callbacks_beside import go_first
from kopt._keras.fit_length import fit_length
from kopt._registry import register
from kopt.callbacks import _owners, _run_length, _targets
from kopt.callbacks.time_stopping import TimeStopping
from kopt.schedules import Cosine, Schedule, Warmup

# How many values of the curve are computed at once: one call of the schedule costs as
# much for a block as for a single step, and that much on every batch would show.
_BLOCK = 256
# Into how many parts a run of some minutes is cut.
_TICKS = 10_000


@register("callbacks", serializable=False)
class FitSchedule(_owners.Mover):
    """Drive a hyper-parameter along a schedule that knows how long `fit` runs.

    Lengths in the schedule may be floats, fractions of the run: "5 % warm-up, then
    down to zero at the end" stays right when the number of epochs, the batch size or
    the data change. Besides the learning rate it moves anything that a Keras variable
    holds: dropout rates, the strength of a regularizer. Of kopt's optimizers it moves
    `weight_decay`, `momentum`, `beta_1` (with its bias correction), and the decay of an
    average: `"ema_momentum"`, of `use_ema` and of `kopt.WeightAverage`. What is not
    moved costs nothing; once a decay is, the training step is traced again.

    Each `fit` is a run of its own, `epochs` times the steps of an epoch long, and
    `initial_epoch` says where in it training goes on. For a run that is spread over
    several calls of `fit`, give its length: as `epochs`, where each call says by
    `initial_epoch` which part it is, or as `total_steps`, where the position is taken
    from the optimizer's own count, which is saved and loaded with the model.

    The value is set before each batch (with `steps_per_execution=N`, before every Nth)
    and stays at its last value when training ends. It is in the logs of batches and
    epochs, so in the progress bar, in `History` and in TensorBoard.

    A variable has one curve. A second `FitSchedule` for it is an error, and so is a
    callback of Keras that sets the learning rate beside one that drives it. Callbacks
    that scale the curve, `kopt.callbacks.ReduceOnPlateau`, may be as many as there are.

    Args:
        schedule: A kopt schedule, or any of `keras.optimizers.schedules`. Steps are
            batches, with gradient accumulation too.
        target: What to move.
            - The name of a hyper-parameter that the optimizer holds in a variable, or
              can hold in one. (An error lists them.)
            - A pattern with a slash for scalar variables of the model, by path:
              `"*/rate"` is the rate of all kopt dropout layers, `"drop_path/rate"` of
              one, `"*/regularizer/*"` all factors of kopt regularizers.
            - A function that takes the model and returns one or more variables.

            Defaults to `"learning_rate"`.
        total_steps: Length of the run in batches, over all calls of `fit`. Defaults to
            that of the present `fit`.
        epochs: Length of the run in epochs, instead of `total_steps`.
        minutes: Length of the run in minutes, instead of either. Fractions of the run
            are then fractions of this time, and training stops at its end, in the
            middle of an epoch too; validation and checkpoints are included, see
            `kopt.callbacks.TimeStopping`. Give `fit` more epochs than there is time
            for.
        name: The value's key in the logs. Defaults to the last word of
            `target`, and must be given when that is a function.

    Raises:
        ValueError: When training begins: if the target is not found or cannot be moved
            (a Python number that the compiled step has copied, a learning rate with a
            schedule of its own), if the learning rate would decay under
            `kopt.ScheduleFree`, if another callback sets the same variable, if the
            schedule has fractions and Keras does not know
            how many batches an epoch has, or if a target other than the learning rate
            is looked for in a model that is not built.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> schedule = kopt.schedules.Cosine(0.1, steps=1.0)
    >>> history = model.fit(np.ones((8, 2)), np.ones(8), batch_size=2, epochs=3,
    ...     verbose=0, callbacks=[kopt.callbacks.FitSchedule(schedule)])
    >>> [round(rate, 4) for rate in history.history["learning_rate"]]
    [0.0854, 0.0371, 0.0017]
    """

    is_curve = True
    #: Keras need not wait for it after a batch: it only adds to the logs.
    async_safe = True

    def __init__(
        self,
        schedule: keras.optimizers.schedules.LearningRateSchedule,
        target: _targets.Target = "learning_rate",
        total_steps: int | None = None,
        epochs: int | None = None,
        name: str | None = None,
        minutes: float | None = None,
    ):
        super().__init__()
        if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            raise TypeError(
                "`schedule` must be a schedule of kopt.schedules or Keras. Received: "
                f"schedule={schedule!r}. To hold a number after a warm-up, write "
                "kopt.schedules.Warmup(number, steps)."
            )
        if not isinstance(target, str) and not callable(target):
            raise TypeError(
                "`target` must be a name, a pattern or a function of the model. "
                f"Received: target={target!r}. For a variable at hand write a "
                "function: lambda model: variable."
            )
        if name is None and not isinstance(target, str):
            raise ValueError("`name` must be given when `target` is a function.")
        _run_length.check(schedule, total_steps, epochs, minutes)
        self.schedule = schedule
        self.target = target
        self.total_steps = total_steps
        self.epochs = epochs
        self.minutes = minutes
        self._timer = None if minutes is None else TimeStopping(minutes)
        self.name = name or str(target).rpartition("/")[2]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._variables = _targets.find(self.model, self.target)
        self.check_alone(self._variables)
        self._factors = list(self.movers_beside(self._variables))
        self._steps, self._epochs = fit_length(self)
        self._starts = _run_length.starts(self, self.epochs or self._epochs)
        self._curve = self._schedule_of_run()
        self._check_range()
        if self.target == "learning_rate":
            optimizer = _targets.optimizer_of(self.model)
            if hasattr(optimizer, "check_schedule"):
                optimizer.check_schedule(self._curve)
        go_first(self)
        if self._timer is not None:
            self._timer.set_model(self.model)
            self._timer.on_train_begin()
        self._block: list[Any] = []
        self._block_start = self._batch = 0
        self._epoch_start: int | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        steps = self._steps
        if self._timer is not None:
            self._timer.on_epoch_begin(epoch)
            self._epoch_start = 0
        elif self._starts and self.total_steps is None:
            self._epoch_start = self._starts[epoch]
        elif self._starts and self._epoch_start is not None:
            self._epoch_start += self._starts[epoch] - self._starts[epoch - 1]
        elif self.total_steps is None and steps:
            self._epoch_start = epoch * steps
        elif self._epoch_start is None:
            self._epoch_start = self._first_step(epoch)
        else:
            # Data that do not know their length end with a batch that is begun and is
            # not there. (That also moves Keras's own counters once too often.)
            self._epoch_start += steps or self._batch
        self._set(0)

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        if self._timer is not None:
            self._timer.on_train_batch_begin(batch)
        self._set(batch)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._log(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._log(logs)
        if self._timer is not None:
            self._timer.on_epoch_end(epoch)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._timer is not None:
            self._timer.on_test_begin()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._timer is None or self.model.stop_training:
            return
        warnings.warn(
            f"Training ended after {self._timer.progress:.0%} of its {self.minutes:g} "
            f"minutes, so {self.name!r} is not at the end of its curve. Give fit more "
            "epochs: those that there is no time for are not run.",
            stacklevel=2,
        )

    def get_state(self) -> dict[str, Any]:
        """Where on the curve the run is, for `kopt.callbacks.BackupAndRestore`."""
        timer = None if self._timer is None else self._timer.get_state()
        return {
            "length": self._length_that_counts(),
            "epoch_start": self._epoch_start,
            "batch": self._batch,
            "timer": timer,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on on the curve.

        Raises:
            ValueError: If the curve is now of another length.
        """
        length = self._length_that_counts()
        if state["length"] != length:
            raise ValueError(
                f"{self.described()} was cut off in a run of {state['length']} steps, "
                f"and this one has {length}: its curve would make a jump."
            )
        self._epoch_start, self._batch = state["epoch_start"], state["batch"]
        if self._timer is not None:
            self._timer.set_state(state["timer"])

    def described(self) -> str:
        target = self.name if callable(self.target) else self.target
        return f"FitSchedule({self.schedule}, target={target!r})"

    @classmethod
    def examples(cls) -> tuple[FitSchedule, ...]:
        """Ready callbacks, as the conformance tests use them."""
        return (cls(Warmup(Cosine(0.01, steps=1.0), steps=0.25)),)

    def _set(self, batch: int) -> None:
        self._batch = batch
        step = (self._epoch_start or 0) + batch
        if self._timer is not None:
            step = min(int(self._timer.progress * _TICKS), _TICKS - 1)
        self._value = self._value_at(step)
        scale = _owners.product(self._factors)
        if scale != 1.0:
            self._value = self._value * scale
        for variable in self._variables:
            variable.assign(self._value)

    def _log(self, logs: dict[str, Any] | None) -> None:
        if logs is not None:
            logs[self.name] = float(keras.ops.convert_to_numpy(self._value))

    def _schedule_of_run(self) -> Schedule:
        return _run_length.bound(self.schedule, self._length())

    def _check_range(self) -> None:
        last = max(1, self._length() or _BLOCK) - 1
        some = np.unique(np.linspace(0, last, _BLOCK).astype(int))
        values = keras.ops.convert_to_numpy(self._curve(some))
        _targets.check_decay(self.model, self.target, values, self.described())

    def _length(self) -> int:
        """The length of the run in steps, or in ticks; 0 if that is not known."""
        if self._timer is not None:
            return _TICKS
        epochs = self.epochs or self._epochs or 0
        if self._starts and not self.total_steps:
            return self._starts[-1]
        return self.total_steps or (self._steps or 0) * epochs

    def _length_that_counts(self) -> int | None:
        """The length of the run, if the schedule has fractions of it."""
        is_bound = not isinstance(self.schedule, Schedule) or self.schedule.bound
        return None if is_bound else self._length()

    def _first_step(self, epoch: int) -> int:
        if self.total_steps is not None:
            return _targets.batches_seen(_targets.optimizer_of(self.model))
        if epoch == 0:
            return 0
        raise ValueError(
            f"Training starts at epoch {epoch}, and Keras does not know how many "
            "batches an epoch of this data has, so neither where in the schedule that "
            "is. Pass `steps_per_epoch` to fit or `total_steps` to FitSchedule."
        )

    def _value_at(self, step: int) -> Any:
        if not 0 <= step - self._block_start < len(self._block):
            self._block_start = step
            self._block = keras.ops.unstack(self._curve(np.arange(step, step + _BLOCK)))
        return self._block[step - self._block_start]
