from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np

from kopt import _checks
from kopt._keras.callbacks_beside import callbacks_beside, leave_out
from kopt._keras.fit_length import fit_length
from kopt._registry import register
from kopt.callbacks import _owners, _progress_table
from kopt.callbacks._progress_table import Place, Row

# How many seconds lie between two pictures of an epoch that goes on.
_LIVE, _PLAIN = 0.2, 60.0


@register("callbacks", serializable=False)
class ProgressReport(keras.callbacks.Callback):
    """Show how training goes: a live table in a terminal, plain lines elsewhere.

    A row for each epoch with the loss, the metrics, those of validation, whatever
    callbacks drive (the learning rate, momentum, a batch size), and the time that it
    took; below, how far the run is and how much time it has left. Where the output is
    no terminal, as in a file or a log, an epoch is one line. It takes the place of the
    progress bar of Keras, whatever `verbose` is.

    The time left is that of the batches so far, without the first one, which traces
    the step; or what is left of the `minutes` of another callback, if that is less.

    Args:
        label: What stands above the table and before each line. Defaults to `""`.
        every: Seconds between two pictures of an epoch that goes on. Greater than 0.
            Defaults to `0.2` in a terminal, and `60` elsewhere.
        console: The `rich.console.Console` to write to. Defaults to one for the
            standard output.

    Raises:
        ValueError: If `every` is not greater than 0.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.0), "mse")
    >>> model.set_weights([np.zeros((2, 1)), np.zeros(1)])
    >>> report = kopt.callbacks.ProgressReport("baseline")
    >>> _ = model.fit(np.ones((8, 2)), np.ones(8), epochs=2, callbacks=[report])
                baseline  epoch 1/2  loss 1  ... s
                baseline  epoch 2/2  loss 1  ... s
    """

    #: Keras need not wait for it after a batch.
    async_safe = True

    def __init__(
        self, label: str = "", every: float | None = None, console: Any = None
    ):
        super().__init__()
        self.label = str(label)
        self.every = every
        if every is not None:
            self.every = _checks.number("every", every, low=0.0, low_open=True)
        self.console = console
        self._live: Any = None
        self._rows: list[Row] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._close()  # Of a `fit` that was interrupted.
        leave_out(self, keras.callbacks.ProgbarLogger)
        self._epochs = fit_length(self)[1]
        self._minutes = min(
            (
                one.minutes
                for other in callbacks_beside(self)
                for one in _owners.parts_of(other)
                if getattr(one, "minutes", None) is not None
            ),
            default=None,
        )
        self._rows = []
        self._begin = self._shown = time.perf_counter()
        self._first_epoch: int | None = None
        # Time and place of the batch that the speed is measured from.
        self._from: tuple[float, float] | None = None
        self._open()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._first_epoch is None:
            self._first_epoch = epoch
        self._epoch, self._batch = epoch, 0
        self._epoch_begin = time.perf_counter()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        now = time.perf_counter()
        self._batch = batch + 1
        if self._from is None:
            self._from = now, self._done()
        if now - self._shown >= self._pause:
            self._show(logs or {}, now)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        now = time.perf_counter()
        # The next one is none any more if this was the last.
        self._epoch, self._batch = epoch + 1, 0
        self._rows.append(self._row(epoch, logs or {}, now))
        self._draw(self._rows, now)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._close()

    def get_state(self) -> dict[str, Any]:
        """The rows of the epochs that are over, without the time that they took."""
        return {"rows": [[row.epoch, dict(row.values)] for row in self._rows]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Show the rows of another `fit` above those to come."""
        self._rows = [Row(epoch, values, None) for epoch, values in state["rows"]]

    @classmethod
    def examples(cls) -> tuple[ProgressReport, ...]:
        """Ready callbacks, as the conformance tests use them."""
        return cls(), cls("a label", every=0.001)

    @property
    def _pause(self) -> float:
        if self.every is not None:
            return self.every
        return _PLAIN if self._live is None else _LIVE

    def _open(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = self.console or Console()
        if not (self._console.is_terminal or self._console.is_jupyter):
            return
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()
        # A `fit` that is interrupted would leave a terminal without one.
        self._console.show_cursor(True)

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
        self._live = None

    def _show(self, logs: dict[str, Any], now: float) -> None:
        """Show an epoch that goes on."""
        self._draw([*self._rows, self._row(self._epoch, logs, now)], now)

    def _draw(self, rows: list[Row], now: float) -> None:
        place = self._place(now)
        self._shown = now
        if self._live is not None:
            table = _progress_table.table(self.label, rows, place)
            self._live.update(table, refresh=True)
            return
        text = _progress_table.line(self.label, rows[-1], place)
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _row(self, epoch: int, logs: dict[str, Any], now: float) -> Row:
        values = {name: _number(value) for name, value in logs.items()}
        numbers = {name: v for name, v in values.items() if v is not None}
        return Row(epoch + 1, numbers, now - self._epoch_begin)

    def _place(self, now: float) -> Place:
        steps = (self.params or {}).get("steps")
        left = self._left(now)
        # An epoch that is over for good says nothing of what is left.
        is_over = self._epochs is not None and self._epoch >= self._epochs
        share = self._share() if self._epochs else None
        if is_over:
            left, share = None, 1.0
        return Place(self._epochs, self._batch, steps, share, left)

    def _done(self) -> float:
        """How many epochs are over, with a part of the present one."""
        steps = (self.params or {}).get("steps")
        return self._epoch + (min(1.0, self._batch / steps) if steps else 0.0)

    def _share(self) -> float:
        first = self._first_epoch or 0
        whole = (self._epochs or 0) - first
        return min(1.0, (self._done() - first) / whole) if whole > 0 else 0.0

    def _left(self, now: float) -> float | None:
        found = []
        if self._epochs and self._from is not None:
            begin, place = self._from
            speed = (self._done() - place) / max(now - begin, 1e-9)
            if speed > 0.0:
                found.append((self._epochs - self._done()) / speed)
        if self._minutes is not None:
            found.append(60.0 * self._minutes - (now - self._begin))
        return max(0.0, min(found)) if found else None


def _number(value: Any) -> float | None:
    array = np.asarray(value)
    return float(array) if array.ndim == 0 and array.dtype.kind in "fiub" else None
