"""The callback that goes with each trial."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import optuna

from kopt.tuning._trials import records
from kopt.tuning._trials.clock import Clock
from kopt.tuning._trials.errors import ObjectiveError


class TrialFailed(Exception):
    """A trial without a score, for a reason that is kept with it."""

    def __init__(self, kind: str, reason: str):
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Recorder(keras.callbacks.Callback):
    """Reports epochs, stops hopeless trials, watches the clock, keeps what was best.

    Args:
        trial: The trial of Optuna.
        objective: Name and direction of the objective.
        clock: The clock of the search.
        first_expected: The first epoch, from 0, whose logs must have the objective;
            `None` if the training is the user's own and may log something else.
        keep_best: Whether the weights of the best epoch are kept.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        objective: Any,
        clock: Clock,
        *,
        first_expected: int | None,
        keep_best: bool,
    ):
        super().__init__()
        self._trial = trial
        self._objective = objective
        self._clock = clock
        self._first_expected = first_expected
        self._keep_best = keep_best
        self._epochs = 0
        self._is_repeat = records.REPEAT_OF in trial.user_attrs
        self.values: list[float] = []
        self.history: dict[str, list[float | None]] = {}
        self.best_weights: list[np.ndarray] | None = None
        self.is_pruned = False
        # What Optuna was told, by epochs.
        self._reports: list[tuple[int, float]] = []

    # A graph that is built from here on takes longer than any batch.

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._clock.check_time()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._clock.check_time()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._clock.check()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._clock.check()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.is_pruned:
            # A loop of the user's own does not look at `stop_training`.
            raise optuna.TrialPruned
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        for name, number in numbers.items():
            kept = number if math.isfinite(number) else None
            self.history.setdefault(name, []).append(kept)
        self._epochs += 1
        self._trial.set_user_attr(records.SECONDS, self._clock.trial_seconds)
        if self._objective.name in numbers:
            self._take(numbers[self._objective.name], is_last=self._is_last(epoch))
        elif self._first_expected is not None and epoch >= self._first_expected:
            raise not_logged(self._objective.name, numbers)

    def get_state(self) -> dict[str, Any]:
        """What is known of the trial after an epoch, for its backup."""
        return {
            "epochs": self._epochs,
            "values": self.values,
            "history": self.history,
            "best_weights": self.best_weights,
            "is_pruned": self.is_pruned,
            "reports": self._reports,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on after that epoch, in another trial that repeats the one cut off."""
        self._epochs = state["epochs"]
        self.values, self.history = list(state["values"]), state["history"]
        self.best_weights = state["best_weights"]
        self.is_pruned = state["is_pruned"]
        known = {epoch for epoch, _ in self._reports}
        for epoch, value in state["reports"]:
            if epoch not in known:
                self._report(epoch, value)
        self._trial.set_user_attr(records.RESUMED_AFTER, self._epochs)

    def is_better(self, value: float, than: float) -> bool:
        return value > than if self._objective.direction == "max" else value < than

    def best_value(self) -> float:
        choose = max if self._objective.direction == "max" else min
        return choose(self.values)

    def _report(self, epoch: int, value: float) -> None:
        self._reports.append((epoch, value))
        self._trial.report(value, step=epoch)

    def _is_last(self, epoch: int) -> bool:
        return epoch + 1 == (self.params or {}).get("epochs")

    def _take(self, value: float, is_last: bool) -> None:
        if not math.isfinite(value):
            raise TrialFailed(
                "not finite",
                f"{self._objective.name} is {value} after epoch {self._epochs}.",
            )
        if self._keep_best and (
            not self.values or self.is_better(value, self.best_value())
        ):
            self.best_weights = [np.array(one) for one in self.model.get_weights()]
        self.values.append(value)
        self._report(self._epochs, value)
        # A repeat runs to its end: its score is for the mean. The pruner sees the last
        # epoch too, but there is nothing left to save.
        if not self._is_repeat and self._trial.should_prune() and not is_last:
            self.is_pruned = True
            self.model.stop_training = True


def not_logged(name: str, seen: Any) -> ObjectiveError:
    """The error for an objective that training does not log."""
    listed = ", ".join(map(repr, seen)) or "nothing"
    advice = "Take one of these as `objective`, or add the metric in `compile`."
    if name.startswith("val_") and not any(one.startswith("val_") for one in seen):
        advice = (
            "Nothing was validated: give `validation_data` or `validation_split` to "
            "the search."
        )
    return ObjectiveError(
        f"The objective {name!r} is not logged. Training logs {listed}. {advice}"
    )
