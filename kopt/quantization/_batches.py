"""Batches of inputs from whatever a user calls data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt import _data
from kopt._data import Pair, Specs, fits
from kopt._signature import has_loops
from kopt._stateful import own_batch

# Values of one input, at most, in a batch for a recurrent network.
_LARGEST_BATCH = 1_000_000


def input_batches(
    model: keras.Model, data: Any, batch_size: int | None = None
) -> tuple[Any, Iterator[Any]]:
    """The inputs of a model in data, batch by batch, without targets and weights.

    Args:
        model: The model that is to take them.
        data: Samples, in any form that `kopt._data.read` takes.
        batch_size: How many samples of an array, or single ones, make a batch. None
            for 32, or up to 256 where a network goes through them step by step.

    Returns:
        The first batch, and an iterator over all of them, the first included.

    Raises:
        TypeError: If the data are none of these.
        ValueError: If there are no samples, or inputs hold NaN or infinity or have
            another shape than the model's.
    """
    first, pairs = batches_with_targets(model, data, batch_size)
    return first, (pair.x for pair in pairs)


def batches_with_targets(
    model: keras.Model, data: Any, batch_size: int | None = None
) -> tuple[Any, Iterator[Pair]]:
    """`input_batches`, with the targets that the data hold beside the inputs.

    A model with `stateful=True` gets the batches that it keeps state for, without the
    samples of a last one that is not full.
    """
    specs, own = _data.specs_of(model), own_batch(model)
    read = _data.read("data", data, specs)
    size = own or batch_size or _usual_size(model, specs)
    pairs = _checked(_data.in_batches(read, size, specs), specs)
    if own is not None:
        pairs = _whole(pairs, own)
    first = next(pairs, None)
    if first is None:
        raise ValueError(
            f"The calibration data hold no samples. Pass at least one. {_data.ACCEPTED}"
        )
    return first.x, itertools.chain([first], pairs)


def _usual_size(model: keras.Model, specs: Specs) -> int:
    """How many samples at once: a step costs the same for few and for many."""
    if not has_loops(model):
        return 32
    values = [math.prod(size or 1 for size in one.shape[1:]) for one in specs.values()]
    return max(32, min(256, _LARGEST_BATCH // max([1, *values])))


def _checked(pairs: Iterator[Pair], specs: Specs) -> Iterator[Pair]:
    for number, pair in enumerate(pairs):
        for leaf in keras.tree.flatten(pair.x):
            if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
                raise ValueError(
                    f"The calibration data hold NaN or infinite values in batch "
                    f"{number}. Remove or replace those samples: a single one would "
                    "spoil every range."
                )
        for leaf, spec in _data.beside_specs(pair.x, specs):
            if not fits(leaf.shape, spec.shape):
                sizes = ["any" if one is None else one for one in spec.shape[1:]]
                shown = ", ".join(map(str, ["samples", *sizes]))
                raise ValueError(
                    f"Calibration data for the input {spec.name!r} must have the "
                    f"shape ({shown}). Received: {leaf.shape} in batch {number}. "
                    "Pass samples as the model gets them in `fit`."
                )
        yield Pair(_as_the_model_takes(pair.x, specs), pair.y)


def _whole(pairs: Iterator[Pair], size: int) -> Iterator[Pair]:
    for pair in pairs:
        received = len(keras.tree.flatten(pair.x)[0])
        if received > size:
            raise ValueError(
                f"The model keeps state for batches of {size} (`stateful=True`). "
                f"Received a batch of {received}. Pass batches of {size}, or the "
                "samples as one array."
            )
        if received == size:
            yield pair


def _as_the_model_takes(x: Any, specs: Specs) -> Any:
    return keras.tree.map_structure(tf.convert_to_tensor, _data.inputs_alone(x, specs))
