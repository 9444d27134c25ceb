"""A `fit` that begins where another one ended.

Keras asks its models for the first epoch, in an attribute without a public name, and
it takes what an epoch logs from the last batch, which may be one of another process.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from kopt._keras.fit_length import locals_of_fit


def begin_at(model: keras.Model, epoch: int | None) -> None:
    """Have the `fit` that is beginning start at an epoch; `None` for its own."""
    model._initial_epoch = epoch


def build_on_data(callback: keras.callbacks.Callback) -> None:
    """Build the model of a callback, with its metrics and optimizer, in its `fit`.

    Else Keras does so at the first batch.

    Raises:
        ValueError: If the data do not tell their shapes.
    """
    known = locals_of_fit(callback)
    if known is None:
        return
    model = callback.model
    spec = batch_spec(known["epoch_iterator"])
    if any(one.shape.rank is None for one in tf.nest.flatten(spec)):
        raise ValueError(
            f"The model {model.name!r} is not built, and its data do not tell their "
            "shapes. Build it first: give it an `Input`, or call it on a batch."
        )
    inputs = keras.tree.map_structure(
        lambda one: keras.KerasTensor(tuple(one.shape), one.dtype.name), spec
    )
    with model.distribute_strategy.scope():
        model._symbolic_build(data_batch=inputs)


def batch_spec(epochs: Any) -> Any:
    """What a batch of the data of an epoch is like; on replicas that of the first."""

    def of_one(spec: Any) -> Any:
        replicas = getattr(spec, "_value_specs", None)
        return replicas[0] if replicas else spec

    return keras.tree.map_structure(of_one, epochs._distributed_dataset.element_spec)


class LogsOfEpoch:
    """What an epoch logs if no batch of it is trained any more.

    Args:
        model: A model in `fit`.
        logs: The logs of the last batch.
    """

    def __init__(self, model: keras.Model, logs: dict[str, Any]):
        self._model = model
        self._logs = logs
        self._own = model._get_metrics_result_or_logs
        model._get_metrics_result_or_logs = self._result

    def remove(self) -> None:
        """Give the model its own method back."""
        vars(self._model).pop("_get_metrics_result_or_logs", None)

    def _result(self, logs: Any) -> Any:
        return self._own(logs or self._logs)
