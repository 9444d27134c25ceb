"""Batches of inputs from whatever a user calls data."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def input_batches(
    model: keras.Model, data: Any, batch_size: int = 32
) -> tuple[Any, Iterator[Any]]:
    """The inputs of a model in data, batch by batch, without targets and weights.

    Args:
        model: The model that is to take them.
        data: An array; a dict of arrays, or a list of as many arrays as the model
            has inputs; a tuple `(x, y)` or `(x, y, sample_weight)` of such; a
            `tf.data.Dataset`, a `keras.utils.PyDataset` or another iterable of
            batches, each one of these.
        batch_size: How many samples of an array make a batch.

    Returns:
        The first batch, and an iterator over all of them, the first included.

    Raises:
        TypeError: If the data are none of these.
        ValueError: If there are no samples, or inputs hold NaN or infinity or have
            another shape than the model's.
    """
    inputs = [one for one in getattr(model, "inputs", ()) if hasattr(one, "shape")]
    batches = _checked(_batches(data, len(inputs), batch_size), inputs)
    first = next(batches, None)
    if first is None:
        raise ValueError("The calibration data hold no samples. Pass at least one.")
    return first, itertools.chain([first], batches)


def _batches(data: Any, inputs: int, batch_size: int) -> Iterator[Any]:
    data = _without_targets(data)
    if _is_arrays(data, inputs):
        samples = {len(leaf) for leaf in keras.tree.flatten(data)}
        for start in range(0, min(samples), batch_size):
            stop = start + batch_size
            yield _tensors(data, slice(start, stop))
    elif isinstance(data, keras.utils.PyDataset):
        for number in range(len(data)):
            yield _tensors(_without_targets(data[number]))
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        for batch in data:
            yield _tensors(_without_targets(batch))
    else:
        raise TypeError(
            "Calibration data must be an array, a tuple (x, y), a tf.data.Dataset or "
            f"another iterable of batches. Received: {data!r}."
        )


def _without_targets(data: Any) -> Any:
    return data[0] if isinstance(data, tuple) else data


def _is_arrays(data: Any, inputs: int) -> bool:
    """Whether data are all samples at once, not one batch after the other."""
    if isinstance(data, dict):
        return True
    if isinstance(data, list):
        return inputs > 1 and len(data) == inputs and all(map(_is_array, data))
    return _is_array(data)


def _is_array(data: Any) -> bool:
    return hasattr(data, "shape") and hasattr(data, "__array__")


def _tensors(batch: Any, samples: slice = slice(None)) -> Any:
    return keras.tree.map_structure(
        lambda leaf: tf.convert_to_tensor(np.asarray(leaf)[samples]), batch
    )


def _checked(batches: Iterator[Any], inputs: list[Any]) -> Iterator[Any]:
    for number, batch in enumerate(batches):
        for leaf in keras.tree.flatten(batch):
            if leaf.dtype.is_floating and not np.isfinite(leaf.numpy()).all():
                raise ValueError(
                    f"The calibration data hold NaN or infinite values in batch "
                    f"{number}. Remove or replace those samples: a single one would "
                    "spoil every range."
                )
        for leaf, expected in _pairs(batch, inputs):
            if not _fits(tuple(leaf.shape), tuple(expected.shape)):
                sizes = ["any" if one is None else one for one in expected.shape[1:]]
                shown = ", ".join(map(str, ["samples", *sizes]))
                raise ValueError(
                    f"Calibration data for the input {expected.name!r} must have the "
                    f"shape ({shown}). Received: {tuple(leaf.shape)} in batch "
                    f"{number}. Pass samples as the model gets them in `fit`."
                )
        yield batch


def _pairs(batch: Any, inputs: list[Any]) -> list[tuple[Any, Any]]:
    """What a batch has for each input, where that is clear."""
    if isinstance(batch, dict) and all(one.name in batch for one in inputs):
        return [(batch[one.name], one) for one in inputs]
    leaves = keras.tree.flatten(batch)
    # By other keys it is for Keras to say which is which.
    known = len(leaves) == len(inputs) and not isinstance(batch, dict)
    return list(zip(leaves, inputs, strict=True)) if known else []


def _fits(found: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether Keras takes a tensor for an input: it adds and drops a last axis of 1."""
    if len(found) == len(expected) + 1 and found[-1] == 1:
        found = found[:-1]
    elif len(found) == len(expected) - 1 and expected[-1] == 1:
        found = (*found, 1)
    return len(found) == len(expected) and all(
        size in (None, one) for one, size in zip(found[1:], expected[1:], strict=True)
    )
