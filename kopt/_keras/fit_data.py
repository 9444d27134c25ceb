"""The data that a `fit` trains on, brought back to a place in them.

Keras makes a new pass through the data for each epoch, or goes on in one pass where
`steps_per_epoch` is given. It has no public way to begin an epoch in its middle, or to
know how often a data set was begun, on which the order of a seeded shuffle depends.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
from keras.src.trainers.data_adapters.generator_data_adapter import (
    GeneratorDataAdapter,
)
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter

from kopt._keras import dataset_randomness
from kopt._keras.fit_length import locals_of_fit
from kopt._keras.random_state import functions_seeded, global_seed
from kopt._keras.resumed_fit import batch_spec

_END = (StopIteration, tf.errors.OutOfRangeError)


class FitData:
    """The training data of the `fit` that is calling a callback.

    Args:
        callback: A callback, in its `on_train_begin`.

    Raises:
        ValueError: If no `fit` of Keras is calling.
    """

    def __init__(self, callback: keras.callbacks.Callback):
        known = locals_of_fit(callback)
        if known is None:
            raise ValueError(
                f"{type(callback).__name__} has to be called by `fit`, which has the "
                "data. In a loop of your own call `model.fit` instead."
            )
        self._epochs = known["epoch_iterator"]
        self._validation = known.get("val_x", None)
        self._model = callback.model
        # How many passes were begun, and in validation, as it may share a shuffle.
        self._passes = self._validation_passes = 0
        self._own_passes = self._epochs._get_iterator
        self._own_steps = self._epochs._enumerate_iterator
        self._epochs._get_iterator = self._new_pass
        self._epochs._enumerate_iterator = self._steps
        self._seed = secrets.randbits(31) if self._needs_seed() else None
        self._skipped = 0
        self._reached: Callable[[], bool] = lambda: True
        #: Called when an epoch is about to take its first batch.
        self.on_epoch: Callable[[], None] = lambda: None

    @property
    def _adapter(self) -> Any:
        # Another one, once the data were cut into other batches.
        return self._epochs.data_adapter

    @property
    def py_dataset(self) -> keras.utils.PyDataset | None:
        """The user's data set in Python, if that is what the data are."""
        if isinstance(self._adapter, PyDatasetAdapter):
            return self._adapter.py_dataset
        return None

    @property
    def variables(self) -> list[tf.Variable]:
        """Variables that the pipeline itself moves, such as seeds of generators."""
        dataset = self._dataset()
        return [] if dataset is None else dataset_randomness.variables_inside(dataset)

    @property
    def description(self) -> dict[str, Any]:
        """What tells these data from others: sizes and kinds."""
        spec = keras.tree.map_structure(
            lambda one: [str(one.shape), one.dtype.name],
            keras.tree.flatten(batch_spec(self._epochs)),
        )
        return {
            "batch_size": self._adapter.batch_size,
            "number of batches": self._adapter.num_batches,
            "steps_per_epoch": self._epochs.steps_per_epoch,
            "steps_per_execution": int(self._epochs.steps_per_execution),
            "shapes and types of the data": spec,
        }

    @property
    def is_in_a_pass(self) -> bool:
        """Whether the next epoch goes on in a pass that was begun before."""
        return self._is_open() and self._epochs._steps_seen > 0

    def unrepeatable(self) -> list[str]:
        """What of the data does not come again when the script runs again."""
        found = self._unrepeatable(self._adapter)
        if self._validation is not None:
            if isinstance(self._validation, tf.data.Dataset):
                found += dataset_randomness.unrepeatable(self._validation)
            elif hasattr(self._validation, "__next__"):
                found.append("validation data from a Python generator")
        return list(dict.fromkeys(found))

    def place(self) -> dict[str, Any]:
        """Where the data are between two epochs."""
        return {
            "passes": self._passes,
            "validation_passes": self._validation_passes,
            "open": self._is_open(),
            "seen": int(self._epochs._steps_seen) if self._is_open() else 0,
            "num_batches": self._epochs._num_batches,
            "seed": self._seed,
        }

    def go_to(
        self, place: dict[str, Any], batches: int, reached: Callable[[], bool]
    ) -> None:
        """Have the next epoch begin at a place.

        Args:
            place: What `place` gave before that epoch.
            batches: How many batches of the epoch are left out.
            reached: Called when they are; whether the epoch has any more batches.
        """
        self._seed = place["seed"]
        self._epochs._num_batches = place["num_batches"]
        finished = place["passes"] - place["open"]
        self._begin_passes(finished, place["validation_passes"])
        self._passes = finished
        if place["open"]:
            iterator = iter(self._new_pass())
            _pull(iterator, place["seen"])
            self._epochs._current_iterator = iterator
            self._epochs._steps_seen = place["seen"]
        self._skipped, self._reached = batches, reached

    def count_validation(self) -> None:
        """Note how often validation begins its data; called before each."""
        epochs = getattr(self._model, "_eval_epoch_iterator", None)
        if epochs is None or "_get_iterator" in vars(epochs):
            return
        inner = epochs._get_iterator

        def counted() -> Any:
            self._validation_passes += 1
            return inner()

        epochs._get_iterator = counted

    def release(self) -> None:
        """Let go of the data, when training has ended."""
        for name in ("_get_iterator", "_enumerate_iterator"):
            vars(self._epochs).pop(name, None)

    def _is_open(self) -> bool:
        """Whether the next epoch goes on in a pass that was made before."""
        return (
            self._epochs.steps_per_epoch is not None
            and self._epochs._current_iterator is not None
        )

    def _begin_passes(self, passes: int, validation_passes: int) -> None:
        """Begin the data as often as it was, without drawing from them."""
        dataset, validation = self._dataset(), self._validation
        if dataset is not None and dataset_randomness.remembers_passes(dataset):
            for _ in range(passes):
                iter(self._own_passes())
        if isinstance(validation, tf.data.Dataset):
            if dataset_randomness.remembers_passes(validation):
                for _ in range(validation_passes):
                    iter(validation)
        self._validation_passes = validation_passes

    def _steps(self) -> Iterator[tuple[int, int, Any]]:
        """The steps of an epoch; those that are left out only draw their data."""
        self.on_epoch()
        skipped, self._skipped = self._skipped, 0
        for begin, end, iterator in self._own_steps():
            if begin >= skipped:
                yield begin, end, iterator
                continue
            _pull(iterator, end - begin + 1)
            if end + 1 >= skipped and not self._reached():
                return

    def _new_pass(self) -> Any:
        self._passes += 1
        if self._seed is None:
            return self._own_passes()
        if self._epochs.steps_per_epoch is None and self._epochs._steps_seen:
            # Keras makes a pass at the end of each epoch that nobody uses.
            return self._epochs._distributed_dataset
        with functions_seeded((self._seed + self._passes) % (1 << 31)):
            dataset = self._adapter.get_tf_dataset()
        strategy = self._epochs._distribute_strategy
        self._epochs._distributed_dataset = strategy.experimental_distribute_dataset(
            dataset
        )
        return self._epochs._distributed_dataset

    def _needs_seed(self) -> bool:
        """Whether Keras shuffles arrays by chance alone."""
        is_array = isinstance(self._adapter, ArrayDataAdapter)
        return is_array and bool(self._adapter._shuffle) and global_seed() is None

    def _dataset(self) -> tf.data.Dataset | None:
        """The user's own data set, where the data are one."""
        if not isinstance(self._adapter, TFDatasetAdapter):
            return None
        dataset = self._adapter.get_tf_dataset()
        return dataset if isinstance(dataset, tf.data.Dataset) else None

    def _unrepeatable(self, adapter: Any) -> list[str]:
        if isinstance(adapter, (ArrayDataAdapter, PyDatasetAdapter)):
            return []
        if isinstance(adapter, GeneratorDataAdapter):
            return ["a Python generator"]
        dataset = self._dataset()
        if dataset is None:
            return [f"data of {type(adapter).__name__}"]
        return dataset_randomness.unrepeatable(dataset)


def _pull(iterator: Any, batches: int) -> None:
    """Draw batches that nobody wants."""
    try:
        for _ in range(batches):
            next(iterator)
    except _END:
        pass
