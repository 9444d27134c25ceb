from __future__ import annotations

import warnings
from collections import Counter
from typing import Any, NamedTuple

import keras
import numpy as np

from kopt import _checks
from kopt._keras.callbacks_beside import callbacks_beside
from kopt._registry import register
from kopt.callbacks import _targets
from kopt.callbacks._guarded_step import REASONS, GuardedStep, Limits
from kopt.callbacks._snapshot import Snapshot, training_state


class Skip(NamedTuple):
    """Where steps were skipped.

    Args:
        epoch: The epoch, counted from 0.
        batch: The batch in it, counted from 0; with several steps an execution, the
            last of them.
        steps: How many steps.
        reason: What was bad of the last of them.
    """

    epoch: int
    batch: int
    steps: int
    reason: str


@register("callbacks", serializable=False)
class SpikeGuard(keras.callbacks.Callback):
    """Skip steps whose loss or gradients are not finite, or far higher than before.

    A skipped step leaves nothing behind: weights, the optimizer's state and counters,
    statistics of batch normalization, random seeds and metrics are those of a run that
    never saw the batch, bit for bit. It is decided inside the compiled training step,
    with any optimizer, before anything is written; so also for each of several steps an
    execution, for each batch of an accumulated gradient, and for the whole batch where
    one replica has a bad part. Under loss scaling, gradients that overflowed are left
    to it; a loss that is not finite is skipped before it lowers the scale.

    After `patience` bad steps in a row, it is the model rather than the data, and
    training stops. With `restore` it goes back first to its last good state.

    The number of skipped steps is in the logs of each epoch, and a warning at the end
    of training says what happened. Counting needs a pass over the gradients.

    Args:
        patience: Stop after this many bad steps in a row. At least 1. Defaults to
            `10`.
        loss_z: Also skip a step whose loss lies more than this many standard
            deviations above its recent mean. Greater than 0. Defaults to `None`.
        gradient_z: The same of the joint norm of all gradients; of an embedding those
            rows count that a batch touched. ZClip, which clips them, uses 2.5. Defaults
            to `None`.
        warmup: How many good steps there have to be before either counts. At least 2.
            Defaults to `25`.
        decay: Share of the past that means and deviations keep at each step. Between 0
            and 1. Defaults to `0.97`.
        restore: Whether the model, when training is stopped, goes back to how it was
            when the last epoch began that began after a good step (or where a run that
            was cut off was resumed in it). Takes a copy of weights and optimizer in the
            host's memory. Defaults to `True`.

    Attributes:
        skipped: How many steps were skipped in the last `fit`.
        skips: Where they were: `epoch`, `batch`, `steps` and `reason` of each.
        stopped: Whether the last `fit` was stopped by it.

    Raises:
        ValueError: If an argument is out of its range. When training begins, if there
            is another one beside it. In the first step, if the model's own `train_step`
            does not call `model.optimizer`.

    Reference:
        Kumar et al., 2025, ZClip: Adaptive Spike Mitigation for LLM Pre-Training,
        [arXiv:2504.02507](https://arxiv.org/abs/2504.02507), for the z-score.

    Example:

    >>> import warnings
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(kopt.Adam(), "mse")
    >>> x = np.array([[1.0, 2.0], [np.nan, 1.0], [3.0, 1.0]])
    >>> guard = kopt.callbacks.SpikeGuard()
    >>> with warnings.catch_warnings(action="ignore"):  # of what was skipped
    ...     _ = model.fit(x, np.ones(3), batch_size=1, shuffle=False, verbose=0,
    ...         callbacks=[guard])
    >>> guard.skips[0].batch, guard.skips[0].reason, int(model.optimizer.iterations)
    (1, 'the loss was not finite', 2)
    >>> bool(np.isfinite(model.get_weights()[0]).all())
    True
    """

    def __init__(
        self,
        patience: int = 10,
        loss_z: float | None = None,
        gradient_z: float | None = None,
        warmup: int = 25,
        decay: float = 0.97,
        *,
        restore: bool = True,
    ):
        super().__init__()
        self.patience = _checks.integer("patience", patience, low=1)
        for name, value in (("loss_z", loss_z), ("gradient_z", gradient_z)):
            if value is not None:
                _checks.number(name, value, low=0.0, low_open=True)
        self.loss_z, self.gradient_z = loss_z, gradient_z
        self.warmup = _checks.integer("warmup", warmup, low=2)
        self.decay = _checks.number(
            "decay", decay, low=0.0, high=1.0, low_open=True, high_open=True
        )
        self.restore = bool(restore)
        self.skipped, self.skips, self.stopped = 0, list[Skip](), False
        self._step: GuardedStep | None = None
        self._snapshot: Snapshot | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._step is not None:
            self._step.remove()  # Of a `fit` that was interrupted.
        _targets.optimizer_of(self.model)
        if any(isinstance(one, SpikeGuard) for one in callbacks_beside(self)):
            raise ValueError(
                "Two SpikeGuards would put each other out of the training step. Give "
                "one of them both limits: SpikeGuard(loss_z=10.0, gradient_z=10.0)."
            )
        self.skipped, self.skips, self.stopped = 0, [], False
        limits = Limits(self.loss_z, self.gradient_z, self.warmup, self.decay)
        self._step = GuardedStep(self.model, limits)
        self._in_a_row = self._before = 0
        self._counts = self._statistics = np.zeros(0)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch, self._before = epoch, self.skipped
        if self.restore and not self._in_a_row:
            self._snapshot = Snapshot(training_state(self.model))

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        if self._step is not None:
            self._step.expect()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        if self._step is None:
            return
        counts = [int(one) for one in self._step.counts.numpy()]
        new, self.skipped = counts[0] - self.skipped, counts[0]
        self._in_a_row = counts[1]
        if new:
            # The last step may have been a good one, after bad ones of an execution.
            reason = REASONS[counts[2]] or "a step within an execution was bad"
            self.skips.append(Skip(self._epoch, batch, new, reason))
        if self._in_a_row >= self.patience and not self.stopped:
            self._stop()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["skipped"] = self.skipped - self._before

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._step is not None:
            self.get_state()  # It may be asked for it once more.
            self._step.remove()
        self._step = self._snapshot = None
        if self.skipped:
            warnings.warn(self.summary(), RuntimeWarning, stacklevel=2)

    def summary(self) -> str:
        """What happened in the last `fit`, in words."""
        if not self.skipped:
            return "SpikeGuard skipped no step."
        counts: Counter[str] = Counter()
        for skip in self.skips:
            counts[skip.reason] += skip.steps
        reasons = ", ".join(f"{reason} ({count})" for reason, count in counts.items())
        first = self.skips[0]
        text = (
            f"SpikeGuard skipped {self.skipped} steps, the first in epoch "
            f"{first.epoch}, batch {first.batch}: {reasons}."
        )
        if not self.stopped:
            return f"{text} Look at these batches, if there are many."
        back = " The model is as it was before they began." if self.restore else ""
        return (
            f"{text} The last {self._in_a_row} were in a row, so training was stopped."
            f"{back} Lower the learning rate, warm it up (kopt.schedules.Warmup), clip "
            "gradients (global_clipnorm=1.0), or look for NaN in the data."
        )

    def get_state(self) -> dict[str, Any]:
        """What was skipped, and the means that spikes are measured by."""
        if self._step is not None:
            self._counts = np.array(self._step.counts)
            self._statistics = np.array(self._step.statistics)
        return {
            "counts": self._counts,
            "statistics": self._statistics,
            "skips": [list(skip) for skip in self.skips],
            "before": self._before,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from the counts and means of another `fit`."""
        assert self._step is not None
        self._step.counts.assign(state["counts"])
        self._step.statistics.assign(state["statistics"])
        self.skips = [Skip(*skip) for skip in state["skips"]]
        self.skipped, self._in_a_row = (int(one) for one in state["counts"][:2])
        self._before = state["before"]

    @classmethod
    def examples(cls) -> tuple[SpikeGuard, ...]:
        """Ready callbacks, as the conformance tests use them."""
        return cls(), cls(loss_z=20.0, gradient_z=20.0, warmup=5, restore=False)

    def _stop(self) -> None:
        self.stopped = True
        self.model.stop_training = True
        if self._snapshot is not None:
            self._snapshot.restore()
