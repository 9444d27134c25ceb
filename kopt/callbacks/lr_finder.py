from __future__ import annotations

import math
import warnings
from typing import Any

import keras
import numpy as np

from kopt import _checks, _extras
from kopt._keras.callbacks_beside import callbacks_beside
from kopt._registry import register
from kopt.callbacks import _range_test, _sweep_company, _targets
from kopt.callbacks._snapshot import Snapshot, training_state
from kopt.callbacks._step_guard import StepGuard

# The smallest sweep that still shows a curve, and how wide a part of it the finished
# curve is averaged over.
_LEAST_POINTS = 10
_TREND_WIDTH = 0.03


@register("callbacks", serializable=False)
class LRFinder(keras.callbacks.Callback):
    """Sweep the learning rate over many orders of magnitude, and suggest one.

    A range test: train for some hundred batches, raising the rate by the same factor
    before each. Too small a rate leaves the loss where it is, a good one makes it fall,
    too large a one makes it rise. The test ends when the loss has grown to `divergence`
    times its best, is not finite any more, or the sweep is through; that ends `fit`.

    Nothing of it stays behind: weights, statistics, the optimizer's state, its rate and
    counters, metrics and random seeds are put back bit for bit, also if the training
    step fails or is interrupted. (If another callback raises, call `restore`.) Only
    what TensorFlow draws by itself goes on, such as the order in which data are
    shuffled.

    Give `fit` plenty of `epochs`; no more are run than the sweep needs. Give the sweep
    a `fit` of its own, too: what else drives the rate, stops training, or saves, swaps
    and restores weights (`FitSchedule`, `EarlyStopping`, `EvalWeights`, a second
    `LRFinder`, a `ModelCheckpoint` where the sweep takes more than an epoch ...) is
    refused beside it.

    Args:
        start: The first rate. Greater than 0. Defaults to `1e-7`.
        end: The last rate. Greater than `start`. Defaults to `10.0`.
        steps: How many rates, evenly spaced on a logarithmic scale. At least 10.
            One is used for a batch, or for `steps_per_execution` of them. Defaults to
            `100`.
        smoothing: How much of its past the running mean keeps from which divergence is
            told. From 0 to less than 1. Defaults to `0.98`.
        divergence: The sweep ends when the running mean of the loss is this many times
            its best. Greater than 1. Defaults to `4.0`.

    Attributes:
        learning_rates: The rates tried, an array.
        losses: The loss of the batches trained with each, an array.

    Raises:
        ValueError: If an argument is out of its range; and when training begins, if
            the model is not built, the optimizer's rate is driven by a schedule, or
            `epochs` are too few; or if another callback of the same `fit` drives the
            rate, then or at any batch, or would act on the sweep.

    Reference:
        Smith, 2015, Cyclical Learning Rates for Training Neural Networks,
        [arXiv:1506.01186](https://arxiv.org/abs/1506.01186), section 3.3. There the
        rate rises linearly and accuracy is plotted; the exponential sweep of the loss
        is how the test has come to be used.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.5), "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> finder = kopt.callbacks.LRFinder()
    >>> _ = model.fit(x, x @ np.ones(4), epochs=50, verbose=0, callbacks=[finder])
    >>> 0.001 < finder.suggestion < 0.5, float(model.optimizer.learning_rate)
    (True, 0.5)
    """

    def __init__(
        self,
        start: float = 1e-7,
        end: float = 10.0,
        steps: int = 100,
        smoothing: float = 0.98,
        divergence: float = 4.0,
    ):
        super().__init__()
        self.start = _checks.number("start", start, low=0.0, low_open=True)
        self.end = _checks.number("end", end, low=self.start, low_open=True)
        self.steps = _checks.integer("steps", steps, low=_LEAST_POINTS)
        self.smoothing = _checks.number(
            "smoothing", smoothing, low=0.0, high=1.0, high_open=True
        )
        self.divergence = _checks.number(
            "divergence", divergence, low=1.0, low_open=True
        )
        self.learning_rates = np.empty(0)
        self.losses = np.empty(0)
        self._snapshots: list[Snapshot] = []
        self._guard: StepGuard | None = None

    @property
    def suggestion(self) -> float:
        """Half-way, on the logarithmic scale, from `steepest` to the lowest loss.

        There the loss is still falling, so the rate holds, and it is as high as it can
        be while that is so: take it as the highest rate of a schedule that ends near
        zero. `benchmarks/learning_rates.py` compares it with the best of eight rates,
        for Adam. SGD with momentum may not stand a rate so near to the lowest loss:
        `steepest` is the safer one there.

        Raises:
            ValueError: If there was no sweep, or the loss never fell in it.
        """
        lowest = float(self._rates[self._curve.argmin()])
        return math.sqrt(self.steepest * lowest)

    @property
    def steepest(self) -> float:
        """The rate at which the loss fell fastest. Raises like `suggestion`."""
        return _range_test.steepest(self._rates, self._curve)

    @property
    def valley(self) -> float:
        """The rate half-way down into the valley. Raises like `suggestion`."""
        return _range_test.halfway(self._rates, self._curve)

    def plot(self, ax: Any = None) -> Any:
        """Draw the loss over the learning rate with matplotlib.

        Args:
            ax: The matplotlib `Axes` to draw into. By default those of a new figure.

        Returns:
            The `Axes`, to save (`ax.figure.savefig(path)`) or to draw more into.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: Like `suggestion`.
        """
        pyplot = _extras.load("matplotlib.pyplot", "plot")
        rates, curve = self._rates, self._curve
        if ax is None:
            _, ax = pyplot.subplots(figsize=(7, 4), layout="constrained")
        ax.plot(rates, self.losses, ".", color="0.7", label="loss of a batch")
        ax.plot(rates, curve, color="C0", linewidth=2, label="trend")
        for name, style in (
            ("steepest", "^C3"),
            ("valley", "oC1"),
            ("suggestion", "DC2"),
        ):
            rate = getattr(self, name)
            loss = np.interp(np.log(rate), np.log(rates), curve)
            ax.plot(rate, loss, style, markersize=9, label=f"{name} {rate:.1e}")
        ax.axvline(self.suggestion, color="C2", zorder=0)
        # The losses of the divergence would press the valley flat.
        level, lowest = float(np.median(curve[: curve.argmin() + 1])), curve.min()
        height = level - lowest
        ax.set_ylim(lowest - 0.3 * height, level + 0.7 * height)
        ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
        ax.grid(alpha=0.3)
        ax.legend(loc="lower left", fontsize="small")
        return ax

    def restore(self) -> None:
        """Put everything back as it was before the sweep, if that is still to do."""
        self._unguard()
        for snapshot in self._snapshots:
            snapshot.restore()
        self._snapshots = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._unguard()
        (self._rate,) = _targets.find(self.model, "learning_rate")
        _targets.build(self.model)
        self._check_length()
        self._check_company()
        self._sweep = np.geomspace(self.start, self.end, self.steps)
        self.learning_rates = self.losses = np.empty(0)
        self._finished = False
        self._snapshots = [
            Snapshot(self.model.metrics_variables),
            Snapshot(training_state(self.model)),
        ]
        self._guard = StepGuard(self.model, self.restore)

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        # The loss in the logs is the mean since the last reset: now that of one batch.
        self.model.reset_metrics()
        self._rate.assign(self._sweep[len(self.losses)])
        self._given = float(self._rate.numpy())
        if self._guard is not None:
            self._guard.expect()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._check_rate()
        loss = self._loss(logs or {})
        if math.isfinite(loss):
            self.losses = np.append(self.losses, loss)
            self.learning_rates = self._sweep[: len(self.losses)]
        if self._is_over(loss):
            # At once, so that validation and checkpoints see the model as it was.
            # Metrics follow at the end of training: this epoch's logs need them.
            self._snapshots[-1].restore()
            self._finished = True
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.restore()
        if not self._finished:
            warnings.warn(
                f"The sweep ended after {len(self.losses)} of {self.steps} learning "
                "rates, because the data ran out or another callback stopped training. "
                "Give fit more epochs, or LRFinder fewer steps.",
                stacklevel=2,
            )

    @classmethod
    def examples(cls) -> tuple[LRFinder, ...]:
        """Ready callbacks, as the conformance tests use them."""
        return (cls(steps=10, end=0.1),)

    def _is_over(self, loss: float) -> bool:
        if not math.isfinite(loss) or len(self.losses) == self.steps:
            return True
        # Before that the mean is as noisy as single losses: a lucky first batch would
        # make the second one look like divergence.
        running = _range_test.smooth(self.losses, self.smoothing)[_LEAST_POINTS - 1 :]
        return len(running) > 0 and _range_test.diverged(running, self.divergence)

    def _loss(self, logs: dict[str, Any]) -> float:
        if "loss" in logs:
            return float(logs["loss"])
        self.restore()
        raise ValueError(
            "The training step of this model reports no 'loss', which the sweep is "
            f"about. It reports: {sorted(logs)}. Return {{'loss': ...}} from its "
            "`train_step`."
        )

    def _check_company(self) -> None:
        points = self._points_an_epoch()
        for other in callbacks_beside(self):
            reason = _sweep_company.conflict(
                other, self.model, self._rate, one_epoch=points >= self.steps
            )
            if isinstance(other, LRFinder):
                reason = "sweeps the learning rate too"
            if reason:
                raise ValueError(
                    f"LRFinder cannot run beside {type(other).__name__}, which "
                    f"{reason}. Give the sweep a `fit` of its own: "
                    "`model.fit(..., callbacks=[finder])`."
                )

    def _check_rate(self) -> None:
        rate = float(self._rate.numpy())
        if rate == self._given:
            return
        self.restore()
        kinds = {type(other).__name__ for other in callbacks_beside(self)}
        named = ", ".join(sorted(kinds - {"History", "ProgbarLogger"}))
        raise ValueError(
            f"The learning rate was {rate:g} at the end of a batch for which LRFinder "
            f"had set {self._given:g}, so the sweep says nothing: something else "
            f"drives it. The callbacks beside LRFinder are: {named or 'none'}. Give "
            "the sweep a `fit` of its own: `model.fit(..., callbacks=[finder])`."
        )

    def _points_an_epoch(self) -> int:
        steps = (self.params or {}).get("steps")
        if not steps:
            return self.steps
        return math.ceil(steps / self.model.steps_per_execution)

    def _unguard(self) -> None:
        if self._guard is not None:
            self._guard.remove()
        self._guard = None

    def _check_length(self) -> None:
        # A list of callbacks that the user made does not know how long `fit` runs.
        params = self.params or {}
        steps, epochs = params.get("steps"), params.get("epochs", self.steps)
        points = self._points_an_epoch()
        if points * epochs < self.steps:
            raise ValueError(
                f"The sweep has {self.steps} steps, but {epochs} epoch(s) of {steps} "
                f"batches make only {points * epochs}. Pass `epochs="
                f"{math.ceil(self.steps / points)}` to fit, which ends with the sweep, "
                "or fewer `steps` to LRFinder."
            )

    @property
    def _rates(self) -> np.ndarray:
        if len(self.losses) < _LEAST_POINTS:
            raise ValueError(
                f"There are {len(self.losses)} points, too few to suggest a learning "
                "rate. Pass this callback to `fit` first; if the loss was not finite "
                f"from the start, lower `start` (now {self.start:g}), or look for NaN "
                "in the data."
            )
        return self.learning_rates

    @property
    def _curve(self) -> np.ndarray:
        width = max(1.0, _TREND_WIDTH * self.steps)
        curve = _range_test.trend(self.losses, width)
        if curve.argmin() == 0:
            raise ValueError(
                f"The loss never fell between {self.start:g} and {self.end:g}. Lower "
                "`start` if it rose at once; otherwise raise `steps` or `end`, or "
                "check the model on data that it can learn."
            )
        return curve
