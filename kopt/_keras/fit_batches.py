"""The data of the `fit` that calls a callback, to be cut into other batches.

Keras makes the batches of an epoch in an iterator that only `fit` has, and offers no
way to change their size between epochs. The iterator is made again, in place, as `fit`
made it.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter

from kopt._keras.fit_length import locals_of_fit


class FitBatches:
    """Arrays, or a `tf.data.Dataset`, of a running `fit`.

    Args:
        known: The local variables of `fit`.
    """

    def __init__(self, known: dict[str, Any]) -> None:
        self._known = known
        self._iterator = known["epoch_iterator"]
        #: How many batches an epoch has as `fit` was called, if that is known.
        self.steps: int | None = self._iterator.num_batches
        #: How many samples a batch has as `fit` was called.
        self.batch_size: int = self._first_batch_size()

    @property
    def is_dataset(self) -> bool:
        """Whether it was batched before `fit` had it."""
        return isinstance(self._known["x"], tf.data.Dataset)

    def steps_of(self, batch_size: int) -> int | None:
        """How many batches an epoch has where they have this size."""
        if self.steps is None:
            return None
        if self.is_dataset or self._known["steps_per_epoch"]:
            return math.ceil(self.steps * self.batch_size / batch_size)
        return math.ceil(len(_first(self._known["x"])) / batch_size)

    def cut(self, batch_size: int) -> None:
        """Make batches of this size, from the next epoch on."""
        known, steps = self._known, self.steps_of(batch_size)
        fixed = known["steps_per_epoch"]
        arguments = {
            name: known[name] for name in ("x", "y", "sample_weight", "class_weight")
        }
        if self.is_dataset:
            data = known["x"].rebatch(batch_size)
            if steps is not None and not fixed:
                data = data.apply(tf.data.experimental.assert_cardinality(steps))
            arguments["x"] = data
        model = known["self"]
        type(self._iterator).__init__(
            self._iterator,
            **arguments,
            batch_size=None if self.is_dataset else batch_size,
            shuffle=False if self.is_dataset else known["shuffle"],
            steps_per_epoch=steps if fixed else None,
            distribute_strategy=model.distribute_strategy,
            steps_per_execution=model.steps_per_execution,
        )

    def _first_batch_size(self) -> int:
        if not self.is_dataset:
            return self._known["batch_size"] or 32
        data = self._known["x"]
        size = _first(data.element_spec).shape[0]
        return size or len(_first(next(iter(data))))


def fit_batches(callback: keras.callbacks.Callback) -> FitBatches | str | None:
    """The data of the `fit` that calls a callback.

    Returns:
        The data; the name of their class where Keras takes the batches from them as
        they are; or `None` where no `fit` of Keras is calling.
    """
    known = locals_of_fit(callback)
    if known is None:
        return None
    adapter = known["epoch_iterator"].data_adapter
    plain = isinstance(known["x"], tf.data.Dataset)
    if isinstance(adapter, ArrayDataAdapter):
        return FitBatches(known)
    if isinstance(adapter, TFDatasetAdapter) and plain:
        return FitBatches(known)
    return type(known["x"]).__name__


def _first(structure: Any) -> Any:
    return keras.tree.flatten(structure)[0]
