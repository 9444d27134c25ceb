"""One `fit` that is backed up, and that goes on where another one was cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from kopt import _callback_state
from kopt._keras.around_callbacks import AroundCallbacks
from kopt._keras.callbacks_beside import callbacks_beside
from kopt._keras.fit_data import FitData
from kopt._keras.fit_length import fit_length
from kopt._keras.resumed_fit import LogsOfEpoch, begin_at, build_on_data
from kopt.callbacks._resuming import (
    checks,
    container,
    identity,
    random_states,
    variables,
)
from kopt.callbacks._resuming.checks import Refusal
from kopt.callbacks._resuming.py_datasets import PyDatasetState

Logs = dict[str, Any] | None


class Owner(Protocol):
    """The callback that backs a run up."""

    model: Any

    def warn(self, text: str) -> None:
        """Say what will not be exact."""
        ...

    def refused(self, refusal: Refusal) -> None:
        """Act on a backup that cannot be resumed; if this returns, the run is new."""
        ...

    def failed(self, error: OSError | TypeError) -> None:
        """Act on a backup that could not be written."""
        ...


class Run:
    """A `fit`, from the `on_train_begin` of the callback that backs it up.

    Args:
        owner: That callback.
        path: The file of the backup.
        every: After how many batches a backup is made; `None` for after each epoch.
        delete: Whether the backup goes when training has ended.
    """

    def __init__(
        self,
        owner: Any,
        path: Path,
        every: int | None,
        delete: bool,
    ):
        self._owner: Owner = owner
        self._callback: keras.callbacks.Callback = owner
        self._model = owner.model
        self._path = path
        self._delete = delete
        self._others = checks.named(callbacks_beside(owner))
        checks.check_alone(self._others)
        checks.check_optimizers(owner.model)
        self._data = FitData(owner)
        self._data.on_epoch = self._take_data
        self._datasets = PyDatasetState(self._data.py_dataset)
        self._every = self._frequency(every)
        self._steps, self._epochs = fit_length(owner)
        self._epoch = self._batches = self._since = 0
        self._start: dict[str, Any] = {}
        self._saved: dict[str, Any] | None = None
        self._logs: LogsOfEpoch | None = None
        self._identity = identity.of_run(self._model, self._data.description)
        container.clear_drafts(path)
        if path.exists():
            try:
                self._load()
            except Refusal as refusal:
                owner.refused(refusal)
        self._around = AroundCallbacks(owner)
        self._hook()

    def release(self) -> None:
        """Leave the `fit` as it was found."""
        self._around.remove()
        self._data.release()
        if self._logs is not None:
            self._logs.remove()
        begin_at(self._model, None)

    def _frequency(self, every: int | None) -> int | None:
        """How often a backup can be made; says so if that is less than was asked."""
        found = self._data.unrepeatable()
        if self._datasets.changes and self._data.description["steps_per_epoch"]:
            found.append("a PyDataset that changes between epochs, in steps_per_epoch")
        if found:
            self._owner.warn(
                f"The data cannot be brought back to a place: they have "
                f"{', '.join(found)}. So this run is backed up at the end of each "
                "epoch, and goes on from there with whatever the data then are. For "
                "an exact resumption give seeds (`keras.utils.set_random_seed`), and a "
                "`keras.utils.PyDataset` or a `tf.data.Dataset` in place of a "
                "generator."
            )
        return None if found else every

    def _hook(self) -> None:
        self._around.before("on_epoch_begin", self._epoch_begins)
        self._around.after("on_epoch_end", self._epoch_ended)
        self._around.before("on_test_begin", self._validation_begins)
        self._around.before("on_train_end", self._training_ends)
        self._around.after("on_train_end", self._training_ended)
        if self._every is not None:
            self._around.after("on_train_batch_end", self._batch_ended)

    # A backup.

    def _write(self, logs: Logs) -> None:
        states = {name: _callback_state.state_of(one) for name, one in self._others}
        tree = {
            "identity": self._identity,
            "epoch": self._epoch,
            "batches": self._batches,
            "stopped": bool(self._model.stop_training),
            "logs": {name: np.array(value) for name, value in (logs or {}).items()},
            "variables": variables.present(self._model),
            "callbacks": {
                name: state for name, state in states.items() if state is not None
            },
            "random": random_states.present(),
            "pipeline": variables.values(self._data.variables),
            "start": self._start,
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            container.write(self._path, checks.stamped(tree))
        except (OSError, TypeError) as error:
            self._owner.failed(error)
        self._since = 0

    def _mark_start(self) -> None:
        """Note how the data are before an epoch takes any."""
        sources = self._start.get("sources")
        if sources is None or not self._data.is_in_a_pass:
            sources = {
                "random": random_states.present(),
                "pipeline": variables.values(self._data.variables),
                "py_dataset": self._datasets.present(),
            }
        self._start = {"place": self._data.place(), "sources": sources}

    def _batch_ended(self, batch: int, logs: Logs = None) -> None:
        done = batch + 1
        self._since += done - self._batches
        self._batches = done
        is_last = self._steps is not None and done >= self._steps
        if self._every is not None and self._since >= self._every and not is_last:
            self._write(logs)

    def _epoch_ended(self, epoch: int, logs: Logs = None) -> None:
        if self._logs is not None:
            self._logs.remove()
            self._logs = None
        self._epoch, self._batches = epoch + 1, 0
        self._steps = fit_length(self._callback)[0]
        if self._every is None or self._since >= self._every or self._is_over():
            self._mark_start()
            self._write(None)

    def _is_over(self) -> bool:
        last = self._epochs is not None and self._epoch >= self._epochs
        return last or bool(self._model.stop_training)

    def _validation_begins(self, logs: Logs = None) -> None:
        self._data.count_validation()

    def _training_ended(self, logs: Logs = None) -> None:
        self.release()
        if self._delete:
            self._path.unlink(missing_ok=True)

    # Going on.

    def _load(self) -> None:
        saved = checks.read(self._path)
        checks.check_settings(self._path, saved, self._identity)
        checks.check_callbacks(self._path, saved, self._others)
        _build(self._callback)
        checks.check_variables(self._path, saved, self._model)
        silent = [n for n, one in self._others if _callback_state.may_forget(one)]
        if silent:
            self._owner.warn(
                f"{', '.join(silent)} may know something of the run that was cut off, "
                "and starts anew. Give the class `get_state()`, which returns a dict, "
                "and `set_state(state)`."
            )
        self._saved = saved
        variables.bring_back(self._model, saved["variables"])
        self._epoch = saved["epoch"]
        is_over = saved["stopped"] and not saved["batches"]
        begin_at(self._model, self._epochs if is_over else self._epoch)

    def _bring_back(self) -> None:
        saved = self._saved or {}
        for name, callback in self._others:
            if name in saved["callbacks"]:
                try:
                    _callback_state.bring_back(callback, saved["callbacks"][name])
                except ValueError as error:
                    raise checks.refusal(self._path, str(error)) from None
        variables.bring_back(self._model, saved["variables"])
        self._model.stop_training = saved["stopped"]

    def _epoch_begins(self, epoch: int, logs: Logs = None) -> None:
        self._epoch, self._batches = epoch, 0
        begin_at(self._model, None)
        if self._saved is None:
            return
        if epoch != self._saved["epoch"]:
            raise checks.refusal(
                self._path,
                f"the run was cut off in epoch {self._saved['epoch']}, and this `fit` "
                f"begins in epoch {epoch}.",
            )
        self._bring_back()
        self._model.stop_training = False
        random_states.go_to(self._saved["random"])
        variables.assign(self._data.variables, self._saved["pipeline"])
        # As Keras does before each epoch; in the middle of one they come back later.
        self._model.reset_metrics()
        if self._saved["batches"]:
            self._logs = LogsOfEpoch(self._model, self._saved["logs"])

    def _take_data(self) -> None:
        """Called when all callbacks have begun an epoch and no batch was taken."""
        if self._saved is None:
            self._mark_start()
            return
        saved, self._start = self._saved, self._saved["start"]
        place, sources = self._start["place"], self._start["sources"]
        before = random_states.present()
        is_drawn_again = bool(saved["batches"] or place["seen"])
        if is_drawn_again:
            random_states.go_to(sources["random"])
            variables.assign(self._data.variables, sources["pipeline"])
        self._datasets.bring_back(sources["py_dataset"])
        self._data.go_to(place, saved["batches"], self._place_is_reached)
        if saved["batches"]:
            return
        if is_drawn_again:
            random_states.settle(before, sources["random"])
        else:
            self._mark_start()
        self._saved = None

    def _place_is_reached(self) -> bool:
        """Called in the middle of an epoch; whether training goes on in it."""
        saved = self._saved or {}
        self._bring_back()
        random_states.settle(saved["random"], self._start["sources"]["random"])
        self._batches = saved["batches"]
        self._saved = None
        return not saved["stopped"]

    def _training_ends(self, logs: Logs = None) -> None:
        # No epoch was left: nobody has brought back what the callbacks knew.
        if self._saved is not None:
            self._bring_back()
            self._saved = None


def _build(owner: keras.callbacks.Callback) -> None:
    """See that all variables are there that a backup can have."""
    model = owner.model
    build_on_data(owner)
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
