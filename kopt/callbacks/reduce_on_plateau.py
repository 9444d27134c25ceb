from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kopt import _checks
from kopt._keras.fit_length import has_validation
from kopt._registry import register
from kopt.callbacks import _metric_direction, _owners, _targets

# What it knows of a run, beside the list of cuts.
_STATE = (
    "scale",
    "_best",
    "_bad",
    "_checks",
    "_count",
    "_looked",
    "_resting",
    "_seen",
    "_sum",
    "_total",
)


@register("callbacks", serializable=False)
class ReduceOnPlateau(_owners.Mover):
    """Cut the learning rate when a metric has stopped to improve.

    Unlike Keras's `ReduceLROnPlateau` it is a factor on whatever moves the rate: with a
    `FitSchedule` beside it the whole rest of the curve is scaled, and without one the
    rate itself is. Several of them, for two metrics say, multiply.

    A check is made at the end of each epoch, or after each `every` batches. When
    `patience` of them in a row were no better than the best one, the rate is multiplied
    by `factor`. Each `fit` begins at a factor of 1.

    Args:
        monitor: What to watch, a key of the logs. Defaults to `"val_loss"`.
        factor: What the rate is multiplied by. Between 0 and 1. Defaults to `0.1`.
        patience: Checks without improvement before a cut. At least 1. Defaults to
            `10`.
        mode: `"min"` if lower is better, `"max"` if higher. `"auto"` knows it of
            losses, errors and most metrics of Keras, by their name. Defaults to
            `"auto"`.
        min_delta: What a change has to exceed to be an improvement. At least 0.
            Defaults to `1e-4`.
        cooldown: Checks after a cut that do not count towards the next one. Defaults
            to `0`.
        warmup: Checks at the beginning that do not count, for as long as a warm-up of
            the rate keeps the metric from improving. Defaults to `0`.
        minimum: The least that the rate is scaled to, all cuts together. From 0 to 1.
            Defaults to `0.0`.
        every: Check each time after this many batches, on the mean over these, instead
            of each epoch. For `monitor` then only the loss and metrics of training do
            that are means. Defaults to `None`.
        target: What to scale, as in `kopt.callbacks.FitSchedule`. Defaults to
            `"learning_rate"`.
        restore_best_weights: Whether the model goes back, before each cut, to the
            weights and statistics that it had at the best check so far. The optimizer
            keeps its moments; what wrappers and averages keep starts again from these
            weights. Takes a copy of the model in the host's memory. Defaults to
            `False`.

    Attributes:
        scale: The factor of all cuts together.
        cuts: The checks after which there was a cut, counted from 0.

    Raises:
        ValueError: If an argument is out of its range, or `mode="auto"` does not know
            the metric. When training begins, if there is no validation for a metric of
            it, the target cannot be moved, or `keras.callbacks.LearningRateScheduler`
            sets it. After the first batch or epoch, if the metric is not logged.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.0), "mse")  # which never improves
    >>> curve = kopt.callbacks.FitSchedule(kopt.schedules.Linear(0.0, 6, final=0.0))
    >>> plateau = kopt.callbacks.ReduceOnPlateau("loss", factor=0.5, patience=2)
    >>> _ = model.fit(np.ones((4, 2)), np.ones(4), epochs=6, verbose=0,
    ...     callbacks=[curve, plateau])
    >>> plateau.cuts, plateau.scale
    ([2, 4], 0.25)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        warmup: int = 0,
        minimum: float = 0.0,
        every: int | None = None,
        target: _targets.Target = "learning_rate",
        *,
        restore_best_weights: bool = False,
    ):
        super().__init__()
        if not isinstance(monitor, str):
            raise TypeError(
                f"`monitor` must be a key of the logs. Received: monitor={monitor!r}. "
                "Write monitor='val_loss'."
            )
        self.monitor = monitor
        self.factor = _checks.number(
            "factor", factor, low=0.0, high=1.0, low_open=True, high_open=True
        )
        self.patience = _checks.integer("patience", patience, low=1)
        self.mode = mode
        self.min_delta = _checks.number("min_delta", min_delta, low=0.0)
        self.cooldown = _checks.integer("cooldown", cooldown, low=0)
        self.warmup = _checks.integer("warmup", warmup, low=0)
        self.minimum = _checks.number("minimum", minimum, low=0.0, high=1.0)
        self.every = None if every is None else _checks.integer("every", every, low=1)
        if every is not None and monitor.startswith("val_"):
            raise ValueError(
                "`every` counts batches of training, which have no metrics of "
                f"validation. Received: monitor={monitor!r}, every={every}. Write "
                "monitor='loss', or leave `every` out."
            )
        self.target = target
        self.restore_best_weights = bool(restore_best_weights)
        direction = _metric_direction.checked(monitor, mode)
        self._sign = {"min": 1.0, "max": -1.0}[direction]
        self.scale = 1.0
        self.cuts: list[int] = []

    @property
    def async_safe(self) -> bool:
        """Whether Keras need not wait for it after each batch."""
        return self.every is None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._variables = _targets.find(self.model, self.target)
        self.check_alone(self._variables)
        movers = self.movers_beside(self._variables)
        self._alone = not any(mover.is_curve for mover in movers)
        if self.monitor.startswith("val_") and has_validation(self) is False:
            raise ValueError(
                f"ReduceOnPlateau watches {self.monitor!r}, and this fit has no "
                "validation. Pass `validation_data` or `validation_split` to fit, or "
                f"write monitor={self.monitor.removeprefix('val_')!r}."
            )
        self.scale, self.cuts = 1.0, []
        self._checks = self._bad = 0
        self._resting = self.warmup
        self._best = np.inf
        self._best_weights: list[tuple[keras.Variable, np.ndarray]] = []
        self._sum, self._count = 0.0, 0
        self._looked = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._seen, self._total = 0, 0.0

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        logs = logs or {}
        if not self._looked and not self.monitor.startswith("val_"):
            self._value(logs)
        self._looked = True
        if self.every is None:
            return
        # The logs have the mean since the epoch began.
        seen = batch + 1
        total = seen * self._value(logs)
        self._sum += total - self._total
        self._count += seen - self._seen
        self._seen, self._total = seen, total
        if self._count >= self.every:
            self._check(self._sum / self._count)
            self._sum, self._count = 0.0, 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs if logs is not None else {}
        if self._alone and self.target == "learning_rate":
            (rate,) = self._variables
            logs["learning_rate"] = float(keras.ops.convert_to_numpy(rate))
        # `validation_freq` leaves epochs without validation.
        validated = any(name.startswith("val_") for name in logs)
        if self.every is None and (validated or not self.monitor.startswith("val_")):
            self._check(self._value(logs))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._best_weights = []

    def get_state(self) -> dict[str, Any]:
        """The cuts and what leads to the next, for `BackupAndRestore`."""
        state = {name: getattr(self, name) for name in _STATE}
        best = [value for _, value in self._best_weights]
        return {**state, "cuts": [*self.cuts], "best_weights": best}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from the cuts and the patience of another `fit`."""
        for name in _STATE:
            setattr(self, name, state[name])
        self.cuts = [*state["cuts"]]
        best = state["best_weights"]
        weights = self.model.weights if best else []
        self._best_weights = list(zip(weights, best, strict=True))

    def described(self) -> str:
        return f"ReduceOnPlateau({self.monitor!r}, target={self.target!r})"

    @classmethod
    def examples(cls) -> tuple[ReduceOnPlateau, ...]:
        """Ready callbacks, as the conformance tests use them."""
        return (
            cls("mae", factor=0.5, patience=1, min_delta=1e6, every=4),
            cls("loss", factor=0.5, patience=1, restore_best_weights=True),
        )

    def _value(self, logs: dict[str, Any]) -> float:
        if self.monitor not in logs:
            raise ValueError(
                f"ReduceOnPlateau watches {self.monitor!r}, which is not logged. There "
                f"are: {', '.join(map(repr, logs)) or 'none'}."
            )
        return float(logs[self.monitor])

    def _check(self, value: float) -> None:
        value *= self._sign
        if value < self._best - self.min_delta:
            self._best, self._bad = value, 0
            if self.restore_best_weights:
                # What Keras returns may share the variable's memory.
                self._best_weights = [
                    (v, np.array(keras.ops.convert_to_numpy(v)))
                    for v in self.model.weights
                ]
        elif not self._resting:
            self._bad += 1
        self._resting = max(0, self._resting - 1)
        if self._bad >= self.patience and self.scale > self.minimum:
            self._cut()
        self._checks += 1

    def _cut(self) -> None:
        before = self.scale
        self.scale = max(self.scale * self.factor, self.minimum)
        self.cuts.append(self._checks)
        self._bad, self._resting = 0, self.cooldown
        for weight, value in self._best_weights:
            weight.assign(value)
        for variable in self._variables if self._alone else ():
            variable.assign(variable * (self.scale / before))
