"""Samples from whatever a user calls data: arrays, data sets, batches, generators.

Every verb that takes samples reads them here, so that what one takes, all take.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt._signature import plain_names, signature_of

Specs = Mapping[str, tf.TensorSpec]

ACCEPTED = (
    "Give an array of samples, a dict or a list of arrays for several inputs, a "
    "tf.data.Dataset, a keras.utils.PyDataset, a list of batches, or a function that "
    "yields batches; of a tuple (x, y) the x are taken."
)


@dataclass(frozen=True)
class Pair:
    """Inputs in the structure that the user gave them, and targets or None."""

    x: Any
    y: Any = None


@dataclass(frozen=True)
class Data:
    """All samples at once, or one batch after the other."""

    whole: Pair | None
    batches: Iterable[Pair]


def specs_of(model: Any) -> Specs:
    """The named inputs of a model, in its own order; empty if it does not tell."""
    try:
        return signature_of(model).inputs
    except (ValueError, NotImplementedError, AttributeError):
        return {}


def read(argument: str, data: Any, specs: Specs) -> Data:
    """Data in any form.

    Args:
        argument: What the user calls this, for the messages.
        data: An array; a dict or list of arrays, one for each input; a tuple `(x, y)`
            or `(x, y, sample_weight)` of such; a `tf.data.Dataset`, batched or not; a
            `keras.utils.PyDataset`; a list or another iterable of batches or of single
            samples, each in one of these forms; or a function that returns one.
        specs: What the model takes; empty if it does not tell.

    Raises:
        TypeError: If the data are nothing of this.
    """
    if callable(data) and not isinstance(data, Iterable):
        data = data()
    pair = _pair(argument, data, specs)
    if _is_whole(pair.x, specs):
        return Data(_as_arrays(pair, specs), ())
    if isinstance(data, tuple):
        data = pair.x
    if isinstance(data, keras.utils.PyDataset):
        batches: Iterable[Any] = (data[number] for number in range(len(data)))
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes, Mapping)):
        batches = data
    else:
        raise TypeError(
            f"`{argument}` must hold samples. Received: {type(data).__name__} "
            f"({str(data)[:60]}). {ACCEPTED}"
        )
    return Data(None, _batches(argument, batches, specs))


def in_batches(data: Data, batch_size: int, specs: Specs) -> Iterator[Pair]:
    """The data in batches: all samples cut into such, single samples gathered."""
    if data.whole is not None:
        count = min(map(len, _leaves(data.whole)), default=0)
        for start in range(0, count, batch_size):
            chosen = slice(start, start + batch_size)
            yield Pair(_cut(data.whole.x, chosen), _cut(data.whole.y, chosen))
        return
    waiting: list[Pair] = []
    for pair in data.batches:
        if not is_single(pair.x, specs):
            yield from _gathered(waiting)
            yield pair
            continue
        if waiting and _shapes(pair) != _shapes(waiting[0]):
            yield from _gathered(waiting)
        waiting.append(pair)
        if len(waiting) == batch_size:
            yield from _gathered(waiting)
    yield from _gathered(waiting)


def is_single(x: Any, specs: Specs) -> bool:
    """Whether inputs are those of one sample, without an axis of samples."""
    found = beside_specs(x, specs)
    return bool(found) and all(_lacks_batch(leaf, spec) for leaf, spec in found)


def by_name(argument: str, x: Any, specs: Specs) -> dict[str, np.ndarray]:
    """Inputs, however they are structured, as arrays by the names of the inputs.

    Raises:
        ValueError: If there is not one array for each input.
    """
    if isinstance(x, Mapping) and not _nested(x):
        named = dict(zip(plain_names(list(x), "input"), x.values(), strict=True))
        if set(specs) <= set(named):
            return {name: np.asarray(named[name]) for name in specs}
        raise ValueError(
            f"`{argument}` must have one entry for each input of the model: "
            f"{', '.join(specs)}. Received: {', '.join(named)}."
        )
    leaves = keras.tree.flatten(x)
    if len(leaves) != len(specs):
        raise ValueError(
            f"`{argument}` must hold one array for each input of the model: "
            f"{', '.join(specs)}. Received {len(leaves)}. {ACCEPTED}"
        )
    return {n: np.asarray(leaf) for n, leaf in zip(specs, leaves, strict=True)}


def fits(found: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Whether Keras takes a shape for another: it adds and drops a last axis of 1."""
    found, wanted = tuple(found), tuple(wanted)
    if len(found) == len(wanted) + 1 and found[-1] == 1:
        found = found[:-1]
    elif len(found) == len(wanted) - 1 and wanted[-1] == 1:
        found = (*found, 1)
    return len(found) == len(wanted) and all(
        size in (None, one) for one, size in zip(found[1:], wanted[1:], strict=True)
    )


def inputs_alone(x: Any, specs: Specs) -> Any:
    """Without what a dict has beside the inputs of the model."""
    if not isinstance(x, Mapping) or not specs:
        return x
    plain = plain_names(list(x), "input")
    if not set(specs) <= set(plain):
        return x
    return {key: x[key] for key, name in zip(x, plain, strict=True) if name in specs}


def beside_specs(x: Any, specs: Specs) -> list[tuple[np.ndarray, tf.TensorSpec]]:
    """What there is for each input, where that is clear."""
    if isinstance(x, Mapping) and not _nested(x):
        named = dict(zip(plain_names(list(x), "input"), x.values(), strict=True))
        if set(specs) <= set(named):
            return [(named[name], spec) for name, spec in specs.items()]
    leaves = keras.tree.flatten(x)
    known = len(leaves) == len(specs) and not isinstance(x, Mapping)
    return list(zip(leaves, specs.values(), strict=True)) if known else []


def _pair(argument: str, data: Any, specs: Specs) -> Pair:
    """Inputs and targets; a tuple of one array for each input is inputs alone."""
    if not isinstance(data, tuple):
        return Pair(data)
    nested = any(isinstance(part, (list, tuple, Mapping)) for part in data)
    if len(specs) > 1 and len(data) == len(specs) and not nested:
        return Pair(data)
    if not 1 <= len(data) <= 3:
        raise ValueError(
            f"`{argument}` must be (x, y), or x alone; several inputs go into a dict "
            f"or a list. Received a tuple of {len(data)}."
        )
    return Pair(data[0], data[1] if len(data) > 1 else None)


def _is_whole(x: Any, specs: Specs) -> bool:
    """Whether these are all samples at once, not one batch after the other."""
    if isinstance(x, tf.data.Dataset):
        return False
    if isinstance(x, Mapping):
        return bool(x) and all(map(_is_array, keras.tree.flatten(dict(x))))
    if isinstance(x, (list, tuple)):
        leaves = keras.tree.flatten(x)
        all_arrays = bool(leaves) and all(map(_is_array, leaves))
        several = len(specs) > 1 and len(leaves) == len(specs)
        alone = len(specs) == len(x) == 1 and not is_single(x[0], specs)
        return all_arrays and (several or alone)
    return _is_array(x)


def _is_array(data: Any) -> bool:
    return hasattr(data, "shape") and hasattr(data, "__array__")


def _nested(x: Mapping[str, Any]) -> bool:
    return any(isinstance(one, (Mapping, list, tuple)) for one in x.values())


def _batches(argument: str, batches: Iterable[Any], specs: Specs) -> Iterator[Pair]:
    for batch in batches:
        yield _as_arrays(_pair(argument, batch, specs), specs)


def _as_arrays(pair: Pair, specs: Specs) -> Pair:
    x = pair.x
    if isinstance(x, (list, tuple)) and len(x) == len(specs) == 1:
        x = x[0]
    return Pair(_arrays(x), _arrays(pair.y))


def _arrays(structure: Any) -> Any:
    if structure is None:
        return None
    return keras.tree.map_structure(_array, structure)


def _array(leaf: Any) -> np.ndarray:
    if hasattr(leaf, "detach"):  # a tensor of torch, which may be on another device
        leaf = leaf.detach().cpu()
    return np.asarray(leaf)


def _lacks_batch(leaf: np.ndarray, spec: tf.TensorSpec) -> bool:
    shape, wanted = np.shape(leaf), tuple(spec.shape)
    if len(wanted) != len(shape) + 1:
        # Keras adds an axis of size 1: a number is a sample.
        return wanted[1:] == (1,) and not shape
    return all(one in (None, size) for size, one in zip(shape, wanted[1:], strict=True))


def _leaves(pair: Pair) -> list[np.ndarray]:
    leaves: list[np.ndarray] = keras.tree.flatten(pair.x)
    return leaves


def _shapes(pair: Pair) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in _leaves(pair)]


def _cut(structure: Any, chosen: slice) -> Any:
    if structure is None:
        return None
    return keras.tree.map_structure(lambda leaf: leaf[chosen], structure)


def _gathered(waiting: list[Pair]) -> Iterator[Pair]:
    """Single samples as one batch; the list is empty afterwards."""
    if not waiting:
        return
    xs, ys = [pair.x for pair in waiting], [pair.y for pair in waiting]
    waiting.clear()
    y = None if ys[0] is None else _stacked(ys)
    yield Pair(_stacked(xs), y)


def _stacked(structures: list[Any]) -> Any:
    return keras.tree.map_structure(lambda *leaves: np.stack(leaves), *structures)
