"""Samples to calibrate a conversion with, and to compare a file with its model on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt.export._signature import plain_names

# More samples than this do not make better ranges; a data set may never end.
MOST = 1000
FOR_COMPARISON = 100

_ACCEPTED = (
    "Give an array of samples, a dict or a list of arrays for several inputs, a "
    "tf.data.Dataset, or a function that yields batches."
)


def named_samples(
    argument: str, data: Any, inputs: Mapping[str, tf.TensorSpec]
) -> dict[str, np.ndarray]:
    """Whatever holds samples, as one array per named input.

    Args:
        argument: What the user calls this, for the messages.
        data: An array, a dict, list or tuple of arrays, a `tf.data.Dataset` of batches
            or of single samples, a function or another iterable of batches. `(x, y)`
            pairs count as `x`. At most 1000 samples are used: spread evenly over
            arrays, the first ones of anything else.
        inputs: The specifications that the samples have to fit.

    Raises:
        TypeError: If `data` is nothing of this.
        ValueError: If it is empty, does not fit, or has NaN or infinite values.
    """
    if _is_arrays(data):
        found = spread(_by_name(argument, data, inputs), MOST)
    else:
        found = _gathered(argument, data, inputs)
    counts = {name: len(values) for name, values in found.items()}
    if len(set(counts.values())) != 1 or not min(counts.values()):
        raise ValueError(
            f"`{argument}` must hold the same number of samples for each input, and at "
            f"least one. Received: {counts}."
        )
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
    inputs: Mapping[str, tf.TensorSpec],
    ranges: Mapping[str, tuple[float, float]],
    ids: int | None,
    count: int = 32,
) -> dict[str, np.ndarray]:
    """Samples to compare on where nobody gave any.

    Args:
        inputs: What the model takes.
        ranges: Inputs whose lowest and highest value are known, from a quantized file.
        ids: Number of rows of the model's smallest embedding table, or None. Where
            there is one, inputs are whole numbers below it.
        count: How many samples.
    """
    generator = np.random.default_rng(0)

    def draw(name: str, spec: tf.TensorSpec) -> np.ndarray:
        values: np.ndarray
        shape = (count, *(size or 32 for size in spec.shape[1:]))
        if ids is not None or spec.dtype.is_integer or spec.dtype.is_bool:
            pixels = ids is None and spec.dtype == tf.uint8
            values = generator.integers(0, 256 if pixels else ids or 2, shape)
        elif name in ranges:
            values = generator.uniform(*ranges[name], shape)
        else:
            values = generator.standard_normal(shape)
        return values.astype(spec.dtype.as_numpy_dtype)

    return {name: draw(name, spec) for name, spec in inputs.items()}


def smallest_table(model: keras.Model) -> int | None:
    """Rows of the smallest embedding table of a model; None if it has none."""
    tables = [
        variable.shape[0]
        for variable in model.variables
        if variable.path.split("/")[-1] == "embeddings"
    ]
    return min(tables, default=None)


def _is_arrays(data: Any) -> bool:
    if isinstance(data, (list, tuple)):
        return bool(data) and all(_is_arrays(part) for part in data)
    if isinstance(data, Mapping):
        return bool(data) and all(_is_arrays(part) for part in data.values())
    return hasattr(data, "__array__") and not isinstance(data, tf.data.Dataset)


def _by_name(
    argument: str, data: Any, inputs: Mapping[str, tf.TensorSpec]
) -> dict[str, np.ndarray]:
    """One batch, however it is structured, as arrays by name."""
    if isinstance(data, tuple) and (len(inputs) == 1 or _holds_structure(data)):
        data = data[0]  # (x, y), as `fit` takes it
    if isinstance(data, Mapping):
        data = dict(zip(plain_names(list(data), "input"), data.values(), strict=True))
        if set(data) != set(inputs):
            raise ValueError(
                f"`{argument}` must have one entry for each input of the model: "
                f"{', '.join(inputs)}. Received: {', '.join(data)}."
            )
        return {name: np.asarray(data[name]) for name in inputs}
    parts = keras.tree.flatten(data)
    if len(parts) != len(inputs):
        raise ValueError(
            f"`{argument}` must hold one array for each input of the model: "
            f"{', '.join(inputs)}. Received {len(parts)}. {_ACCEPTED}"
        )
    return {name: np.asarray(part) for name, part in zip(inputs, parts, strict=True)}


def _holds_structure(data: tuple) -> bool:
    return isinstance(data[0], (list, tuple, Mapping))


def _gathered(
    argument: str, data: Any, inputs: Mapping[str, tf.TensorSpec]
) -> dict[str, np.ndarray]:
    """The first samples of something that is gone through batch by batch."""
    batches = data() if callable(data) else data
    if isinstance(batches, (str, bytes)) or not isinstance(batches, Iterable):
        raise TypeError(
            f"`{argument}` must hold samples. Received: {type(data)}. {_ACCEPTED}"
        )
    parts: dict[str, list[np.ndarray]] = {name: [] for name in inputs}
    total = 0
    for batch in itertools.islice(batches, MOST):
        named = _by_name(argument, batch, inputs)
        for name, values in named.items():
            single = values.ndim == len(inputs[name].shape) - 1
            parts[name].append(values[None] if single else values)
        total += len(parts[next(iter(inputs))][-1])
        if total >= MOST:
            break
    if not total:
        raise ValueError(f"`{argument}` is empty. {_ACCEPTED}")
    return {name: np.concatenate(values)[:MOST] for name, values in parts.items()}


def _checked(
    argument: str, name: str, values: np.ndarray, spec: tf.TensorSpec
) -> np.ndarray:
    wanted = tuple(spec.shape)
    fits = values.ndim == len(wanted) and all(
        size is None or size == found
        for size, found in zip(wanted[1:], values.shape[1:], strict=True)
    )
    if not fits:
        shown = ", ".join("any" if size is None else str(size) for size in wanted[1:])
        raise ValueError(
            f"`{argument}` for the input {name!r} must have the shape (samples, "
            f"{shown}). Received: {values.shape}."
        )
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
