from __future__ import annotations

import itertools
import numbers
from collections.abc import Mapping
from typing import Any

import keras

from kopt import _checks
from kopt._keras.callbacks_beside import callbacks_beside
from kopt._keras.fit_batches import FitBatches, fit_batches
from kopt._keras.fit_length import fit_length
from kopt._registry import register


@register("callbacks", serializable=False)
class BatchSizeRamp(keras.callbacks.Callback):
    """Train on larger batches from some epochs on.

    Larger batches have less noise in their gradients, as a lower learning rate has:
    four times the batch stands for a cut of the rate by four, with a quarter of the
    updates. An epoch stays one pass through the data, with fewer and larger batches.
    A `FitSchedule` beside it counts the steps that there really are. The size is in
    the logs of each epoch.

    It works with arrays, which are cut otherwise, and with a `tf.data.Dataset`, which
    is batched again. Where TensorFlow knew the size of a batch, the training step is
    traced again at each change.

    Args:
        sizes: The batch size from an epoch on, over all replicas, by the epoch: a whole
            number, counted from 0, or a float in (0, 1), a fraction of the run. Before
            the first of them the size is that of `fit`. For a dataset they must be
            multiples of the size of its batches.

    Raises:
        TypeError: If an epoch or a size is not a number.
        ValueError: If an argument is out of its range. When training begins, if an
            epoch is not within the run or there twice, or the data can not be cut:
            generators, `PyDataset`s, distributed datasets.

    Reference:
        Smith et al., 2018, Don't Decay the Learning Rate, Increase the Batch Size,
        [arXiv:1711.00489](https://arxiv.org/abs/1711.00489).

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(kopt.SGD(0.01), "mse")
    >>> ramp = kopt.callbacks.BatchSizeRamp({2: 16, 3: 64})
    >>> history = model.fit(np.ones((64, 2)), np.ones(64), batch_size=4, epochs=4,
    ...     verbose=0, callbacks=[ramp]).history
    >>> history["batch_size"], int(model.optimizer.iterations)
    ([4, 4, 16, 64], 37)
    """

    def __init__(self, sizes: Mapping[int | float, int]):
        super().__init__()
        if not isinstance(sizes, Mapping) or not sizes:
            raise TypeError(
                "`sizes` must map epochs to batch sizes. Received: "
                f"sizes={sizes!r}. Write sizes={{10: 128, 20: 256}}."
            )
        self.sizes = {
            _epoch(key): _checks.integer(f"sizes[{key!r}]", size, low=1)
            for key, size in sizes.items()
        }

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        _, epochs = fit_length(self)
        data = fit_batches(self)
        if not isinstance(data, FitBatches) or epochs is None:
            received = "a loop that is not `fit`" if data is None else data
            raise ValueError(
                "BatchSizeRamp cuts arrays and tf.data.Datasets that are passed to "
                f"`fit` into other batches. Received: {received}. Pass the arrays "
                "themselves, or a dataset: `tf.data.Dataset.from_generator(...)`."
            )
        self._data = data
        self._stages = self._planned(data, epochs)
        self._size = data.batch_size

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        size = _size_at(epoch, self._stages, self._data.batch_size)
        if size == self._size:
            return
        self._data.cut(size)
        self._size = size
        # Where others look how long the epoch is.
        steps = self._data.steps_of(size)
        self.params["steps"] = steps
        for other in callbacks_beside(self):
            if isinstance(other, keras.callbacks.ProgbarLogger):
                other.target = steps

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["batch_size"] = self._size

    def get_state(self) -> dict[str, Any]:
        """The plan of the run; the place in it is the number of the epoch."""
        return {"plan": self._plan()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on in a run of the same plan.

        Raises:
            ValueError: If the plan is another one.
        """
        if [list(row) for row in state["plan"]] != self._plan():
            raise ValueError(
                f"The batch sizes by epoch were {state['plan']}, and are now "
                f"{self._plan()}. Pass the same `sizes`, and fit the same `batch_size` "
                "and `epochs`."
            )

    def starts(self, epochs: int) -> list[int] | None:
        """The first step of each epoch of a run, and the step after its last one.

        `None` where Keras does not know how many batches an epoch has.
        """
        data = fit_batches(self)
        if not isinstance(data, FitBatches) or data.steps is None:
            return None
        stages = self._planned(data, epochs)
        steps = [
            data.steps_of(_size_at(epoch, stages, data.batch_size)) or 0
            for epoch in range(epochs)
        ]
        return [0, *itertools.accumulate(steps)]

    @classmethod
    def examples(cls) -> tuple[BatchSizeRamp, ...]:
        """Ready callbacks, as the conformance tests use them."""
        return (cls({1: 8, 2: 24}), cls({0.5: 12}))

    def _plan(self) -> list[list[int]]:
        first = [0, self._data.batch_size]
        return [first, *([epoch, size] for epoch, size in self._stages.items())]

    def _planned(self, data: FitBatches, epochs: int) -> dict[int, int]:
        """The batch sizes by the number of an epoch, checked for one run."""
        stages: dict[int, int] = {}
        for key, size in self.sizes.items():
            epoch = key if isinstance(key, int) else round(key * epochs)
            if epoch >= epochs or epoch in stages:
                rule = "there twice" if epoch in stages else "not within the run"
                raise ValueError(
                    f"`sizes` changes the batch size at epoch {epoch}, which is "
                    f"{rule}: this fit has {epochs} epochs, counted from 0. Received: "
                    f"sizes={self.sizes}. Fractions of the run, sizes={{0.5: 128}}, "
                    "are right for any number of epochs that has room for them."
                )
            if data.is_dataset and size % data.batch_size:
                raise ValueError(
                    "`sizes` must be multiples of the size of the dataset's batches, "
                    f"{data.batch_size}, or it is not known how many there will be. "
                    f"Received: sizes={self.sizes}. Batch the dataset otherwise."
                )
            stages[epoch] = size
        return stages


def _size_at(epoch: int, stages: Mapping[int, int], first: int) -> int:
    reached = [begin for begin in stages if begin <= epoch]
    return stages[max(reached)] if reached else first


def _epoch(key: Any) -> int | float:
    if isinstance(key, numbers.Integral):
        return _checks.integer("epoch", key, low=0)
    return _checks.number(
        "epoch",
        key,
        low=0.0,
        high=1.0,
        low_open=True,
        high_open=True,
        hint="A float is a fraction of the run.",
    )
