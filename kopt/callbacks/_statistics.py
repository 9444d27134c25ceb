"""Batch statistics of a model, taken anew for the weights that it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

from kopt._keras.layer_tree import nested_layers
from kopt._keras.model_state import state_kept


def normalizations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The layers whose statistics training moves."""
    return [
        layer
        for layer in nested_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]


def statistics(model: keras.Model) -> list[tuple[keras.Variable, np.ndarray]]:
    """The moving means and variances with their present values."""
    return [
        (variable, np.array(keras.ops.convert_to_numpy(variable)))
        for layer in normalizations(model)
        for variable in layer.non_trainable_variables
    ]


def estimate(model: keras.Model, data: Any, batches: int) -> None:
    """Set the statistics to their plain mean over some batches.

    A training pass, without a step: dropout is on, as it was when the statistics were
    taken in training, but its random seeds are put back, and so is all other state.

    Args:
        model: A model with batch normalization; without, nothing is done.
        data: Inputs, as `batches_of` takes them.
        batches: How many batches to take at most.
    """
    layers = normalizations(model)
    if not layers:
        return
    own = [v for layer in layers for v in layer.non_trainable_variables]
    momenta = [layer.momentum for layer in layers]
    means: list[np.ndarray] = []
    try:
        for layer in layers:
            layer.momentum = 0.0  # The statistics are then those of the last batch.
        with state_kept(model, moving=own):
            for count, inputs in enumerate(batches_of(data, batches), start=1):
                model(inputs, training=True)
                present = [value.astype("float64") for _, value in statistics(model)]
                means = means or [np.zeros_like(value) for value in present]
                means = [
                    m + (p - m) / count for m, p in zip(means, present, strict=True)
                ]
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    if not means:
        raise ValueError(
            "`statistics` has no batch to take batch statistics from. Received an "
            f"empty {type(data).__name__}. A `tf.data.Dataset` or `keras.utils."
            "PyDataset` can be read many times, a generator only once."
        )
    for (variable, _), mean in zip(statistics(model), means, strict=True):
        variable.assign(mean)


#: By model: each variable, its value in training and the one that was estimated.
_remembered: WeakKeyDictionary[
    keras.Model, list[tuple[keras.Variable, np.ndarray, np.ndarray]]
] = WeakKeyDictionary()


def estimate_for_now(model: keras.Model, data: Any, batches: int) -> None:
    """The same, until `put_back` is called."""
    trained = statistics(model)
    estimate(model, data, batches)
    _remembered[model] = [
        (variable, old, new)
        for (variable, old), (_, new) in zip(trained, statistics(model), strict=True)
    ]


def are_of_now(model: keras.Model) -> bool:
    """Whether `put_back` has something to put back."""
    return model in _remembered


def put_back(model: keras.Model) -> None:
    """Give a model its statistics of training, where nobody else wrote since."""
    for variable, trained, estimated in _remembered.pop(model, []):
        if np.array_equal(keras.ops.convert_to_numpy(variable), estimated):
            variable.assign(trained)


def batches_of(data: Any, batches: int) -> Iterator[Any]:
    """Some batches of inputs, without the targets that may come with them.

    Args:
        data: A `tf.data.Dataset`, a `keras.utils.PyDataset` or another iterable of
            batches, where a tuple's first part is the inputs; or an array of inputs,
            of which `batches` equal parts are made.
        batches: How many batches at most.
    """
    if isinstance(data, np.ndarray) or keras.ops.is_tensor(data):
        yield from np.array_split(np.asarray(data), min(batches, len(data)))
        return
    for _, batch in zip(range(batches), data, strict=False):
        yield batch[0] if isinstance(batch, (tuple, list)) else batch
