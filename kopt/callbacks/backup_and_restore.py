from __future__ import annotations

import os
import tempfile
import uuid
import warnings
from pathlib import Path
from typing import Any

import keras

from kopt import _checks
from kopt._registry import register
from kopt.callbacks._resuming.checks import Refusal
from kopt.callbacks._resuming.run import Run

_FILE = "training.backup"


@register("callbacks", serializable=False)
class BackupAndRestore(keras.callbacks.Callback):
    """Continue a `fit` that was cut off, exactly where it was.

    Run the same script again after a crash, a kill or a preemption: `fit` goes on at
    the last backup, and ends with the weights, history and decisions that it would have
    had without the interruption, bit for bit, after as many updates. Keras's callback
    of this name restores weights, optimizer and epoch, but repeats the part of an epoch
    that was trained, and `EarlyStopping`, `ModelCheckpoint` and the like forget what
    they knew.

    A backup has the model with its metrics and seeds, the optimizer, the generators of
    Python, NumPy and TensorFlow, the place in the epoch and in the data, the history,
    and what each callback knows that has `get_state` and `set_state`: those of kopt,
    and Keras's own. It is one file that takes the place of the one before when it is on
    the disk: a process that is killed while it writes leaves the one before.

    Data are brought back to their place by drawing them again, without training:
    arrays, `keras.utils.PyDataset`, `tf.data.Dataset` with seeds. Arrays that are
    shuffled without a seed get one, which is kept. What cannot be drawn again, such as
    a Python generator, or a `tf.data` shuffle without a seed, is named in a warning
    when training begins; backups are then made at the end of epochs only. Not kept, and
    not named, is what a model draws by `tf.random.normal` and the like: write
    `keras.random.normal(shape, seed=seed_generator)`.

    Args:
        backup_dir: The folder of the backup. It is made where it is not. Each `fit` of
            a script needs one of its own.
        save_freq: `"epoch"` for a backup after each epoch, or the number of batches
            after which one is made. Defaults to `"epoch"`.
        delete_checkpoint: Whether the backup is deleted when training has ended.
            Otherwise the same script trains nothing when it runs again, and ends with
            the same model and history. Defaults to `True`.

    Raises:
        TypeError: If `backup_dir` is no path or `save_freq` no number.
        ValueError: If `save_freq` is below 1. When training begins, if the backup is
            of another model or of a run with other settings, if it is not whole, or if
            a callback beside it backs up the same run.

    Example:

    >>> def updates(interrupted_at=0):
    ...     keras.utils.set_random_seed(0)
    ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    ...     def stop(batch, logs):
    ...         if model.optimizer.iterations == interrupted_at:
    ...             raise KeyboardInterrupt
    ...     stopping = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
    ...     backup = kopt.callbacks.BackupAndRestore("backup", save_freq=2)
    ...     x, y = np.ones((8, 2)), np.ones(8)
    ...     model.fit(x, y, 1, epochs=3, verbose=0, callbacks=[backup, stopping])
    ...     return int(model.optimizer.iterations), model.get_weights()[0].tolist()
    >>> whole = updates()
    >>> try:
    ...     updates(interrupted_at=13)
    ... except KeyboardInterrupt:
    ...     resumed = updates()
    >>> resumed == whole, resumed[0]
    (True, 24)
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
    ):
        super().__init__()
        if not isinstance(backup_dir, (str, os.PathLike)) or not str(backup_dir):
            raise TypeError(
                "`backup_dir` must be the path of a folder. Received: "
                f"backup_dir={backup_dir!r}. Write backup_dir='backup'."
            )
        if save_freq != "epoch":
            _checks.integer("save_freq", save_freq, low=1, hint='Or write "epoch".')
        self.backup_dir = Path(backup_dir)
        self.save_freq = save_freq
        self.delete_checkpoint = delete_checkpoint
        self._run: Run | None = None

    @property
    def async_safe(self) -> bool:
        """Whether Keras need not wait for callbacks after each batch."""
        return self.save_freq == "epoch"

    @property
    def file(self) -> Path:
        """The file of the backup, which is there while the run is not at its end."""
        return self.backup_dir / _FILE

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._run is not None:
            self._run.release()  # Of a `fit` that was interrupted.
        every = self.save_freq if isinstance(self.save_freq, int) else None
        self._run = Run(self, self.file, every, self.delete_checkpoint)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Nothing; it is here for Keras to see that it has to wait."""

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._run = None

    def warn(self, text: str) -> None:
        """Say what will not be exact."""
        warnings.warn(text, stacklevel=7)

    def refused(self, refusal: Refusal) -> None:
        """Act on a backup that cannot be resumed: an error."""
        raise refusal

    def failed(self, error: OSError | TypeError) -> None:
        """Act on a backup that could not be written: training is worth more."""
        if isinstance(error, TypeError):
            raise error  # A state that no backup can hold.
        self.warn(
            f"The backup {str(self.file)!r} could not be written: {error}. Training "
            "continues; an interruption would go back to the backup before."
        )

    @classmethod
    def examples(cls) -> tuple[BackupAndRestore, ...]:
        """Ready callbacks, as the conformance tests use them."""
        folder = Path(tempfile.gettempdir()) / f"kopt-{uuid.uuid4().hex[:12]}"
        return (cls(folder / "a"), cls(folder / "b", save_freq=5))
