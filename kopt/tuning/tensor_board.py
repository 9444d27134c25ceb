"""TensorBoard: a run for each trial, with its hyperparameters."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kopt._registry import register
from kopt.tuning._trials import records


@register("tuning", serializable=False)
class TensorBoard:
    """A TensorBoard run for each trial of a search, with its hyperparameters.

    To give to `kopt.tuning.tune` as `callbacks`: a function of the trial that makes a
    `keras.callbacks.TensorBoard` with a folder of its own, and a record of the trial's
    hyperparameters, which TensorBoard's HParams tab puts beside the metrics. Show it
    with `tensorboard --logdir FOLDER`. A trial that was cut off goes on in its run, and
    trials that repeat a configuration are one group of the tab.

    Args:
        folder: Where the runs are.
        **arguments: Further arguments of `keras.callbacks.TensorBoard`.

    Example:

    >>> logs = kopt.tuning.TensorBoard("logs")
    >>> def build(hp):
    ...     model = keras.Sequential([keras.layers.Dense(hp.Choice("units", [1, 2]))])
    ...     model.compile("sgd", "mse")
    ...     return model
    >>> results = kopt.tuning.tune(
    ...     build, (np.ones((8, 2)), np.ones((8, 1))), objective="loss",
    ...     budget=kopt.tuning.Budget(trials=2), callbacks=logs,
    ... )
    >>> import os
    >>> sorted(os.listdir("logs"))
    ['trial-0000', 'trial-0001']
    """

    def __init__(self, folder: str | Path, **arguments: Any):
        if "log_dir" in arguments:
            raise TypeError(
                "`log_dir` is made for each trial, inside of `folder`. Leave it out. "
                f"Received: log_dir={arguments['log_dir']!r}."
            )
        self.folder = Path(folder)
        self.arguments = arguments

    def __call__(self, trial: Any) -> list[keras.callbacks.Callback]:
        """The callbacks of a trial."""
        number = trial.user_attrs.get(records.RETRY_OF, trial.number)
        run = self.folder / f"trial-{number:04d}"
        return [
            keras.callbacks.TensorBoard(log_dir=str(run), **self.arguments),
            _HyperParameters(run, trial),
        ]


class _HyperParameters(keras.callbacks.Callback):
    """Writes down with which values a run trains, and that it has ended."""

    def __init__(self, run: Path, trial: Any):
        super().__init__()
        self._run = run
        self._trial = trial

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        from tensorboard.plugins.hparams import api

        values = self._trial.user_attrs.get(records.VALUES, {})
        first = self._trial.user_attrs.get(records.REPEAT_OF)
        number = self._trial.user_attrs.get(records.RETRY_OF, self._trial.number)
        group = f"trial {number if first is None else first}"
        self._write(api.hparams_pb(values, trial_id=group, start_time_secs=time.time()))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        from tensorboard.plugins.hparams import api_pb2, summary

        self._write(summary.session_end_pb(api_pb2.STATUS_SUCCESS, time.time()))

    def _write(self, message: Any) -> None:
        writer = tf.summary.create_file_writer(str(self._run), name="hparams")
        with writer.as_default():
            tf.summary.experimental.write_raw_pb(message.SerializeToString(), step=0)
        writer.close()
