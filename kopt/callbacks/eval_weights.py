from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kopt import _checks
from kopt._registry import register
from kopt.callbacks import _points, _statistics, _targets
from kopt.callbacks._step_guard import BeforeNextStep, StepGuard, ValidationGuard


@register("callbacks", serializable=False)
class EvalWeights(keras.callbacks.Callback):
    """Evaluate, predict, checkpoint and go on at the right weights.

    Some optimizers train at one point and are to be evaluated at another: an average of
    the weights (`kopt.WeightAverage`, `use_ema`, `kopt.ScheduleFree`), slow weights
    (`kopt.Lookahead`), weights without a perturbation (`kopt.MomentumSAM`). This one
    callback serves them all:

    - Validation and, where it is passed to them, `evaluate` and `predict` run at the
      evaluation point.
    - When an epoch ends the model holds it too, so `ModelCheckpoint` saves and
      `EarlyStopping` restores the weights that scored what the history says. Put
      `EvalWeights` before them; after an epoch with validation any order will do.
    - When training continues the model goes back, bit for bit; also in another `fit`,
      with or without the callback, and after validation was interrupted.
    - Weights that somebody else has written meanwhile (`set_weights`, the best ones by
      `EarlyStopping`) are where training continues.

    The state of kopt's optimizers says what the model holds, so a loaded checkpoint
    resumes from the weights that train; pass the callback to that `fit` too, or its
    first gradient is the one at the evaluation point. With an optimizer of Keras and
    `use_ema`, whose state does not say it, a checkpoint holds the average alone.

    Batch normalization keeps statistics of the weights that were trained. With
    `statistics` they are taken again at each evaluation point, over some batches, and
    put back when training continues.

    Args:
        statistics: Inputs to take batch statistics from: arrays, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a list of batches, or a function that yields
            batches; targets beside the inputs are left aside. Batches should be as
            large as in training. Defaults to `None`, which leaves the statistics alone.
        batches: How many batches of them, at least 1. An array is cut into so many.
            Defaults to `32`.

    Raises:
        ValueError: When training or evaluation begins, if the model has just one set
            of weights and no `statistics` are given; or if those are empty.

    Reference:
        Izmailov et al., 2018, Averaging Weights Leads to Wider Optima and Better
        Generalization, [arXiv:1803.05407](https://arxiv.org/abs/1803.05407), section
        3.2, on batch normalization.

    Example:

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(kopt.WeightAverage(kopt.SGD(1.0)), "mae")  # to and fro
    >>> x = np.ones((4, 1))
    >>> for callbacks in ([], [kopt.callbacks.EvalWeights()]):
    ...     history = model.fit(x, x, epochs=50, verbose=0, callbacks=callbacks,
    ...                         validation_data=(x, x)).history
    ...     print("loss" if history["val_loss"][-1] > 0.5 else "smaller loss")
    loss
    smaller loss
    """

    def __init__(self, statistics: Any = None, batches: int = 32) -> None:
        super().__init__()
        self.statistics = statistics
        self.batches = _checks.integer("batches", batches, low=1)
        self._point: _points.Point | None = None
        self._optimizer: Any = None
        self._fitting = False
        self._came = False
        self._guard: StepGuard | None = None
        self._validation: ValidationGuard | None = None
        self._return: BeforeNextStep | None = None

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        # Each method that runs batches begins with this, also where the last one was
        # interrupted.
        self._fitting = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._look()
        self._fitting = True
        self._leave()
        if self._validation is not None:
            self._validation.remove()
        self._validation = ValidationGuard(self.model, self._leave)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._leave()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._come()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._point is not None:
            self._point.finalized()
        self._come()
        self._fitting = False
        if self._validation is not None:
            self._validation.remove()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._start("test_function")

    def on_predict_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._start("predict_function")

    def on_test_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        if self._guard is not None:
            self._guard.expect()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._guard is not None:
            self._guard.remove()
        # In `fit` the model stays for the callbacks at the end of the epoch.
        if self._came and not self._fitting:
            self._leave()

    def get_state(self) -> dict[str, Any]:
        """The weights that train, while the model holds others."""
        away = None if self._point is None else self._point.get_state()
        return {"away": away, "statistics": _statistics.remembered(self.model)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to those when training continues."""
        if self._point is not None:
            self._point.set_state(state["away"])
        _statistics.remember(self.model, state["statistics"])

    on_predict_batch_begin = on_test_batch_begin
    on_predict_end = on_test_end

    @classmethod
    def examples(cls) -> tuple[EvalWeights, ...]:
        """Ready callbacks, as the conformance tests use them."""
        return (cls(statistics=np.ones((8, 4), "float32"), batches=2),)

    def _look(self) -> None:
        """Find the evaluation point of the model that the callback is used with."""
        optimizer = _targets.optimizer_of(self.model)
        if optimizer is self._optimizer:
            return
        self._optimizer = optimizer
        self._point = _points.point_of(optimizer)
        if self._point is None and self.statistics is None:
            kind = type(optimizer).__name__
            raise ValueError(
                f"{kind} keeps one set of weights, so EvalWeights has nothing to swap. "
                f"To average them, compile with kopt.WeightAverage({kind}(...)); to "
                "take batch statistics anew, pass `statistics`."
            )

    def _start(self, name: str) -> None:
        """Begin to evaluate or predict with one of the model's functions."""
        self._look()
        self._came = self._come()
        if self._guard is not None:
            self._guard.remove()
        self._guard = StepGuard(self.model, self._leave, name)

    def _come(self) -> bool:
        """Bring the model to its evaluation point; whether it was elsewhere."""
        moved = not _statistics.are_of_now(self.model)
        if self._point is not None:
            moved = self._point.swap_to_eval()
        if moved and self.statistics is not None:
            _statistics.estimate_for_now(self.model, self.statistics, self.batches)
        if moved:
            self._return = BeforeNextStep(self.model, self._leave)
        return moved

    def _leave(self) -> None:
        """Bring the model back to where it is trained."""
        if self._return is not None:
            self._return.remove()
            self._return = None
        if self._point is not None:
            self._point.swap_to_train()
        _statistics.put_back(self.model)
