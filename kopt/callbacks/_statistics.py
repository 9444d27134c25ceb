"""Batch statistics of a model, taken anew for the weights that it holds."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

from kopt import _data
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
            for count, inputs in enumerate(batches_of(data, batches, model), start=1):
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
            "PyDataset` can be read many times, a generator only once; a function that "
            "yields batches can, too."
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


def remembered(model: keras.Model) -> list[list[np.ndarray]] | None:
    """What `put_back` would put back, and where nobody else wrote; None if nothing."""
    kept = _remembered.get(model)
    return None if kept is None else [[old, new] for _, old, new in kept]


def remember(model: keras.Model, kept: list[list[np.ndarray]] | None) -> None:
    """Have `put_back` put back what `remembered` gave."""
    _remembered.pop(model, None)
    if kept is not None:
        _remembered[model] = [
            (variable, old, new)
            for (variable, _), (old, new) in zip(statistics(model), kept, strict=True)
        ]


def put_back(model: keras.Model) -> None:
    """Give a model its statistics of training, where nobody else wrote since."""
    for variable, trained, estimated in _remembered.pop(model, []):
        if np.array_equal(keras.ops.convert_to_numpy(variable), estimated):
            variable.assign(trained)


def batches_of(data: Any, batches: int, model: Any = None) -> Iterator[Any]:
    """Some batches of inputs, without the targets that may come with them.

    Args:
        data: Samples, in any form that `kopt._data.read` takes; all samples at once
            are cut into `batches` equal parts.
        batches: How many batches at most.
        model: The model that is to take them; None if it is not known.
    """
    specs = {} if model is None else _data.specs_of(model)
    read = _data.read("statistics", data, specs)
    if read.whole is not None:
        x = _data.inputs_alone(read.whole.x, specs)
        count = len(keras.tree.flatten(x)[0])
        for part in np.array_split(np.arange(count), min(batches, count) or 1):
            if len(part):
                yield keras.tree.map_structure(operator.itemgetter(part), x)
        return
    for pair in itertools.islice(_data.in_batches(read, 32, specs), batches):
        yield _data.inputs_alone(pair.x, specs)
