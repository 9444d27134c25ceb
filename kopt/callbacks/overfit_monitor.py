from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kopt import _checks, _extras
from kopt._findings import Diagnosis, Finding
from kopt._keras.fit_length import has_validation
from kopt._registry import register
from kopt.callbacks import _fit_curves, _metric_direction

_ADVICE = {
    "overfitting": (
        "the weights of the best epoch: keras.callbacks.EarlyStopping("
        "restore_best_weights=True); kopt.WeightAverage often ends lower",
        "more data, or augmentation of those there are",
        "weight decay (kopt.AdamW(weight_decay=0.05)), kopt.regularizers.L2",
        "kopt.layers.Dropout, or DropPath around residual branches",
        "a smaller network: kopt.pruning.prune_low_magnitude",
    ),
    "a gap": (
        "weight decay (kopt.AdamW(weight_decay=0.05)), kopt.layers.Dropout",
        "more data, or augmentation of those there are",
        "a look at whether validation data are of the same kind as those of training",
    ),
    "stopped too early": (
        "more epochs: both are still falling",
        "kopt.callbacks.FitSchedule, whose curve ends with the run, however long it is",
    ),
    "underfitting": (
        "a higher learning rate (kopt.callbacks.LRFinder finds one), or a schedule: "
        "kopt.callbacks.OneCycle",
        "a larger network, or less regularization",
        "a look at the gradients: kopt.callbacks.GradientMonitor",
    ),
}


@register("callbacks", serializable=False)
class OverfitMonitor(keras.callbacks.Callback):
    """Watch training beside validation: the gap, since when, and what to try.

    After training `summary()` says in words whether the model has overfitted, and from
    which epoch on; whether there is a gap that did not grow; whether training ended
    while both were still falling; or whether it learns no more. Rises and falls count
    that exceed the noise of a curve.

    Values of training are means over an epoch, with dropout and while weights moved, so
    they lie above what validation data would show of the same weights: a small gap in
    the other direction is usual in the first epochs.

    Args:
        monitor: The loss or metric, a key of the logs; its counterpart of validation
            has `val_` before it. Defaults to `"loss"`.
        mode: `"min"` if lower is better, `"max"` if higher. `"auto"` knows it of
            losses, errors and most metrics of Keras, by their name. Defaults to
            `"auto"`.
        patience: For how many epochs since the best one validation has to be worse for
            a verdict. At least 1. Defaults to `3`.

    Attributes:
        epochs: The epochs with validation, counted from 0.
        training: The values of training, one an epoch.
        validation: Those of validation.
        gap: By how much validation was worse in the last of them.
        best_epoch: The epoch that validation was best in.

    Raises:
        ValueError: If an argument is out of its range, or `mode="auto"` does not know
            the metric. When training begins, if there is no validation. After the first
            epoch, if the metric is not logged.

    Example:

    >>> keras.utils.set_random_seed(0)
    >>> hidden = keras.layers.Dense(64, "relu")
    >>> model = keras.Sequential([keras.Input((8,)), hidden, keras.layers.Dense(1)])
    >>> model.compile(kopt.Adam(0.01), "mse")
    >>> draw = np.random.default_rng(0).normal
    >>> monitor = kopt.callbacks.OverfitMonitor()
    >>> noise = (draw(size=(32, 8)), draw(size=(32, 1)))
    >>> _ = model.fit(*noise, epochs=40, verbose=0, callbacks=[monitor],
    ...     validation_data=(draw(size=(32, 8)), draw(size=(32, 1))))
    >>> [finding.kind for finding in monitor.diagnosis.findings], monitor.gap > 0.5
    (['overfitting'], True)
    """

    #: Keras need not wait for it after a batch.
    async_safe = True
    #: Without validation data it is refused.
    needs_validation = True

    def __init__(self, monitor: str = "loss", mode: str = "auto", patience: int = 3):
        super().__init__()
        if not isinstance(monitor, str) or monitor.startswith("val_"):
            raise ValueError(
                "`monitor` must be a loss or metric of training; its counterpart of "
                f"validation is known. Received: monitor={monitor!r}. Write "
                "monitor='loss'."
            )
        self.monitor = monitor
        self.mode = _metric_direction.checked(monitor, mode)
        self.patience = _checks.integer("patience", patience, low=1)
        self.epochs: list[int] = []
        self.training: list[float] = []
        self.validation: list[float] = []

    @property
    def gap(self) -> float:
        self._check_measured()
        return float(self._curves()[1][-1] - self._curves()[0][-1])

    @property
    def best_epoch(self) -> int:
        self._check_measured()
        return self.epochs[_fit_curves.best(self._curves()[1])]

    @property
    def diagnosis(self) -> Diagnosis:
        """The verdict on the last `fit`.

        Raises:
            ValueError: If there was no epoch with validation yet.
        """
        self._check_measured()
        training, validation = self._curves()
        about = (
            f"{self.monitor!r} over {len(self.epochs)} epochs: "
            f"{self.training[-1]:.4g} in training and {self.validation[-1]:.4g} in "
            f"validation at the end, a gap of {self.gap:.4g}. Validation was best in "
            f"epoch {self.best_epoch}: "
            f"{self.validation[_fit_curves.best(validation)]:.4g}."
        )
        found = self._verdict(training, validation)
        return Diagnosis(type(self).__name__, about, found)

    def summary(self) -> str:
        """The same in words, with what to try. Raises like `diagnosis`."""
        return str(self.diagnosis)

    def plot(self, ax: Any = None) -> Any:
        """Draw both curves with matplotlib, and the gap between them.

        Args:
            ax: The matplotlib `Axes` to draw into. By default those of a new figure.

        Returns:
            The `Axes`.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If there was no epoch with validation yet.
        """
        self._check_measured()
        pyplot = _extras.load("matplotlib.pyplot", "plot")
        if ax is None:
            _, ax = pyplot.subplots(figsize=(7, 4), layout="constrained")
        ax.plot(self.epochs, self.training, "o-", markersize=3, label="training")
        ax.plot(self.epochs, self.validation, "o-", markersize=3, label="validation")
        ax.fill_between(self.epochs, self.training, self.validation, alpha=0.15)
        best = self.epochs.index(self.best_epoch)
        ax.plot(self.best_epoch, self.validation[best], "C1*", markersize=14)
        ax.annotate(
            "best",
            (self.best_epoch, self.validation[best]),
            (0, -18 if self.mode == "min" else 12),
            textcoords="offset points",
            ha="center",
        )
        for finding in self.diagnosis.findings:
            if finding.kind == "overfitting":
                label = f"overfitting since epoch {finding.since}"
                ax.axvspan(finding.since, self.epochs[-1], color="C3", alpha=0.08)
                ax.axvline(finding.since, color="C3", linestyle=":", label=label)
        ax.set(xlabel="epoch", ylabel=self.monitor)
        ax.grid(alpha=0.3)
        ax.legend(fontsize="small")
        return ax

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if has_validation(self) is False:
            raise ValueError(
                "OverfitMonitor compares training with validation, and this fit has "
                "none. Pass `validation_data` or `validation_split` to fit."
            )
        self.epochs, self.training, self.validation = [], [], []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if not any(name.startswith("val_") for name in logs):
            return  # `validation_freq` leaves epochs without.
        for name in (self.monitor, f"val_{self.monitor}"):
            if name not in logs:
                raise ValueError(
                    f"OverfitMonitor watches {name!r}, which is not logged. There are: "
                    f"{', '.join(map(repr, logs)) or 'none'}."
                )
        self.epochs.append(epoch)
        self.training.append(float(logs[self.monitor]))
        self.validation.append(float(logs[f"val_{self.monitor}"]))

    def get_state(self) -> dict[str, Any]:
        """The curves so far."""
        return {
            "epochs": [*self.epochs],
            "training": [*self.training],
            "validation": [*self.validation],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from the curves of another `fit`."""
        self.epochs = [*state["epochs"]]
        self.training = [*state["training"]]
        self.validation = [*state["validation"]]

    @classmethod
    def examples(cls) -> tuple[OverfitMonitor, ...]:
        """Ready callbacks; they need a `fit` with validation."""
        return (cls(),)

    def _verdict(
        self, training: np.ndarray, validation: np.ndarray
    ) -> tuple[Finding, ...]:
        best = _fit_curves.best(validation)
        after = len(validation) - 1 - best
        learns_on = _fit_curves.has_improved_since(training, best)
        if after >= self.patience and _fit_curves.is_worse(validation) and learns_on:
            since = self.epochs[best + 1]
            text = (
                f"It has overfitted since epoch {since}: training went on to improve, "
                f"validation got worse by {validation[-1] - validation[best]:.4g}. "
                "What to try:"
            )
            return (self._finding("overfitting", text, since),)
        if _fit_curves.is_falling(validation, self.patience):
            text = "Training ended while validation was still improving. What to try:"
            return (self._finding("stopped too early", text, self.epochs[-1]),)
        if _fit_curves.is_falling(training, self.patience) and after >= self.patience:
            text = (
                f"Validation has not improved since epoch {self.epochs[best]}, though "
                "training has: the gap grows. What to try:"
            )
            return (self._finding("a gap", text, self.epochs[best]),)
        if len(training) > 2 * self.patience and not _fit_curves.has_improved_since(
            training, self.patience
        ):
            text = (
                f"Training itself has hardly improved since epoch "
                f"{self.epochs[self.patience]}. What to try:"
            )
            since = self.epochs[self.patience]
            return (self._finding("underfitting", text, since),)
        return ()

    def _finding(self, kind: str, text: str, since: int) -> Finding:
        return Finding(kind, text, since, advice=_ADVICE[kind])

    def _curves(self) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation, lower being better."""
        sign = 1.0 if self.mode == "min" else -1.0
        return sign * np.array(self.training), sign * np.array(self.validation)

    def _check_measured(self) -> None:
        if not self.epochs:
            raise ValueError(
                "OverfitMonitor has seen no epoch with validation yet. Pass it to "
                "`fit` first: `model.fit(..., callbacks=[monitor])`."
            )
