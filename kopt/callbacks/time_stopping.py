from __future__ import annotations

from typing import Any

import keras

from kopt import _checks
from kopt._keras.fit_length import validates_after, validation_steps
from kopt._registry import register
from kopt.callbacks._clock import Clock


@register("callbacks", serializable=False)
class TimeStopping(keras.callbacks.Callback):
    """Stop training when its time is over, in the middle of an epoch too.

    The time begins with `fit` and includes validation and what other callbacks do at
    the end of an epoch, such as writing checkpoints: training stops as long before the
    end as they took lately. (Before the first validation that is estimated from the
    number of its batches.) The batch that ends nearest to that is the last. To have
    the learning rate at the end of its curve by then, see `minutes` of
    `kopt.callbacks.FitSchedule`.

    Args:
        minutes: The time for training and validation. Greater than 0.

    Attributes:
        stopped: Whether the last `fit` was stopped by it.

    Raises:
        ValueError: If `minutes` is not greater than 0.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> stopping = kopt.callbacks.TimeStopping(minutes=0.01)
    >>> history = model.fit(np.ones((8, 2)), np.ones(8), epochs=100_000, verbose=0,
    ...     callbacks=[stopping])
    >>> stopping.stopped, len(history.epoch) < 100_000
    (True, True)
    """

    def __init__(self, minutes: float):
        super().__init__()
        self.minutes = _checks.number("minutes", minutes, low=0.0, low_open=True)
        self.stopped = False
        self._clock: Clock | None = None

    @property
    def progress(self) -> float:
        """How much of the time for training is over, from 0 to 1."""
        return 0.0 if self._clock is None else self._clock.progress()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.stopped = False
        self._clock = Clock(self.minutes, validation_steps(self))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._clock is not None:
            self._clock.epoch_begins(validates=validates_after(self, epoch))

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        # Before the step and not after it, where Keras may not wait for a callback.
        if self._clock is not None and self._clock.step_begins():
            self._stop()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._clock is not None and self._clock.epoch_ends():
            self._stop()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._clock is not None:
            self._clock.pause_begins()

    def get_state(self) -> dict[str, Any]:
        """How much of the time is over, for `kopt.callbacks.BackupAndRestore`."""
        clock = None if self._clock is None else self._clock.get_state()
        return {"stopped": self.stopped, "clock": clock}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with the time that is left; what lay in between does not count."""
        self.stopped = state["stopped"]
        if self._clock is not None and state["clock"] is not None:
            self._clock.set_state(state["clock"])

    @classmethod
    def examples(cls) -> tuple[TimeStopping, ...]:
        """Ready callbacks, as the conformance tests use them."""
        return (cls(minutes=60.0),)

    def _stop(self) -> None:
        self.stopped = True
        self.model.stop_training = True
