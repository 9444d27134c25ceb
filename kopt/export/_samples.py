"""Samples to calibrate a conversion with, and to compare a file with its model on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt import _data
from kopt._data import ACCEPTED, Data, Specs, by_name, fits, in_batches
from kopt._keras.layer_tree import with_nested_layers

# More samples than this do not make better ranges; a data set may never end.
MOST = 1000
FOR_COMPARISON = 100


def named_samples(argument: str, data: Any, inputs: Specs) -> dict[str, np.ndarray]:
    """Whatever holds samples, as one array per named input.

    Args:
        argument: What the user calls this, for the messages.
        data: Samples, in any form that `kopt._data.read` takes. At most 1000 are
            used: spread evenly over arrays, the first ones of anything else.
        inputs: The specifications that the samples have to fit.

    Raises:
        TypeError: If `data` is nothing of this.
        ValueError: If it is empty, does not fit, or has NaN or infinite values.
    """
    read = _data.read(argument, data, inputs)
    found = _gathered(argument, read, inputs)
    counts = {name: values.shape[:1] for name, values in found.items()}
    if len(set(counts.values())) != 1 or min(counts.values()) in ((), (0,)):
        shown = {name: count[0] if count else 1 for name, count in counts.items()}
        raise ValueError(
            f"`{argument}` must hold the same number of samples for each input, and at "
            f"least one. Received: {shown}."
        )
    if read.whole is not None:
        found = spread(found, MOST)
    return {
        name: _checked(argument, name, found[name], spec)
        for name, spec in inputs.items()
    }


def spread(samples: Mapping[str, np.ndarray], most: int) -> dict[str, np.ndarray]:
    """At most `most` samples, spread evenly over those given."""
    count = len(next(iter(samples.values())))
    if count <= most:
        return dict(samples)
    chosen = np.linspace(0, count - 1, most).astype(int)
    return {name: values[chosen] for name, values in samples.items()}


def random_samples(
    inputs: Specs,
    ranges: Mapping[str, tuple[float, float]],
    ids: int | None,
    count: int = 32,
    words: Sequence[str] = ("",),
) -> dict[str, np.ndarray]:
    """Samples to compare on where nobody gave any.

    Args:
        inputs: What the model takes.
        ranges: Inputs whose lowest and highest value are known, from a quantized file.
        ids: Number of rows of the model's smallest embedding table, or None. Where
            there is one, inputs are whole numbers below it.
        count: How many samples.
        words: What strings are drawn from.
    """
    generator = np.random.default_rng(0)

    def draw(name: str, spec: tf.TensorSpec) -> np.ndarray:
        values: np.ndarray
        shape = (count, *(size or 32 for size in spec.shape[1:]))
        if spec.dtype == tf.string:
            return generator.choice(np.array(words, dtype=object), shape)
        if ids is not None or spec.dtype.is_integer or spec.dtype.is_bool:
            pixels = ids is None and spec.dtype == tf.uint8
            values = generator.integers(0, 256 if pixels else ids or 2, shape)
        elif name in ranges:
            values = generator.uniform(*ranges[name], shape)
        else:
            values = generator.standard_normal(shape)
        return values.astype(spec.dtype.as_numpy_dtype)

    return {name: draw(name, spec) for name, spec in inputs.items()}


def known_words(model: keras.Model) -> list[str]:
    """The words that a model has a number for; one empty word if it knows none."""
    lookups = (keras.layers.StringLookup, keras.layers.TextVectorization)
    vocabularies = [
        layer.get_vocabulary()
        for layer in with_nested_layers(model)
        if isinstance(layer, lookups)
    ]
    return [word for words in vocabularies for word in words] or [""]


def smallest_table(model: keras.Model) -> int | None:
    """Rows of the smallest embedding table of a model; None if it has none."""
    tables = [
        variable.shape[0]
        for variable in model.variables
        if variable.path.split("/")[-1] == "embeddings"
    ]
    return min(tables, default=None)


def _gathered(argument: str, data: Data, inputs: Specs) -> dict[str, np.ndarray]:
    """All samples of arrays; the first ones of what comes batch by batch."""
    if data.whole is not None:
        return by_name(argument, data.whole.x, inputs)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in inputs}
    total = 0
    for batch in in_batches(data, 1, inputs):
        named = by_name(argument, batch.x, inputs)
        for name, values in named.items():
            parts[name].append(_checked(argument, name, values, inputs[name]))
        total += len(parts[next(iter(inputs))][-1])
        if total >= MOST:
            break
    if not total:
        raise ValueError(f"`{argument}` is empty. {ACCEPTED}")
    return {name: np.concatenate(values)[:MOST] for name, values in parts.items()}


def _checked(
    argument: str, name: str, values: np.ndarray, spec: tf.TensorSpec
) -> np.ndarray:
    wanted = tuple(spec.shape)
    if not fits(values.shape, wanted):
        shown = ", ".join("any" if size is None else str(size) for size in wanted[1:])
        raise ValueError(
            f"`{argument}` for the input {name!r} must have the shape (samples, "
            f"{shown}). Received: {values.shape}."
        )
    if values.ndim != len(wanted):
        # As Keras does: a last axis of size 1 is there or not.
        values = values[..., 0] if values.ndim > len(wanted) else values[..., None]
    if spec.dtype == tf.string:
        return _words(argument, name, values)
    if values.dtype.kind not in "fiub":
        raise TypeError(
            f"`{argument}` for the input {name!r} must be numbers. Received: "
            f"{values.dtype}."
        )
    if spec.dtype.is_integer and values.dtype.kind == "f" and (values % 1).any():
        raise ValueError(
            f"`{argument}` for the input {name!r} must be whole numbers: the input's "
            f"type is {spec.dtype.name}. Received values such as "
            f"{values[values % 1 != 0].flat[0]!r}."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"`{argument}` for the input {name!r} has NaN or infinite values. Remove "
            "or mend those samples."
        )
    return values.astype(spec.dtype.as_numpy_dtype)


def _words(argument: str, name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "OSU":
        raise TypeError(
            f"`{argument}` for the input {name!r} must be strings. Received: "
            f"{values.dtype}."
        )
    return np.asarray(values, dtype=object)
