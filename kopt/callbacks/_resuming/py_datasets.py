"""What a `keras.utils.PyDataset` becomes from epoch to epoch.

Many shuffle the indices of their samples in `on_epoch_end`, and each time from where
they were: their state is in their attributes.
"""

from __future__ import annotations

import random
import zlib
from typing import Any

import keras
import numpy as np

_PLAIN = (bool, int, float, str, type(None))
# Of larger arrays a part is looked at to see whether they change.
_COMPARED_BYTES = 1 << 26


class PyDatasetState:
    """What of a data set in Python has to be kept.

    A data set with `get_state()` and `set_state(state)` says it itself. Else it is what
    its attributes hold: numbers and text, generators of random numbers, indices, and
    other arrays as soon as they differ from what they were when `fit` began. Nothing of
    a data set that has neither `on_epoch_begin` nor `on_epoch_end`, but generators.

    Args:
        dataset: The data set, or `None` if the data are of another kind.
    """

    def __init__(self, dataset: keras.utils.PyDataset | None):
        self._dataset = dataset
        self._marks = {
            name: _mark(value) for name, value in self._own() if _is_large(value)
        }

    @property
    def changes(self) -> bool:
        """Whether the data set is another one in each epoch."""
        if self._dataset is None:
            return False
        base, kind = keras.utils.PyDataset, type(self._dataset)
        return (
            kind.on_epoch_begin is not base.on_epoch_begin
            or kind.on_epoch_end is not base.on_epoch_end
        )

    def present(self) -> dict[str, Any]:
        """What is to be kept now."""
        if self._dataset is None:
            return {}
        if hasattr(self._dataset, "get_state"):
            return self._dataset.get_state()
        return {
            name: _kept(value)
            for name, value in self._own()
            if self._marks.get(name) != _mark(value) or not _is_large(value)
        }

    def bring_back(self, state: dict[str, Any]) -> None:
        """Give the data set what `present` kept."""
        if self._dataset is None:
            return
        if hasattr(self._dataset, "set_state"):
            self._dataset.set_state(state)
            return
        for name, value in state.items():
            _put(self._dataset, name, value)

    def _own(self) -> list[tuple[str, Any]]:
        """The attributes that may have to be kept."""
        attributes = {} if self._dataset is None else vars(self._dataset)
        kinds: tuple[type, ...] = (random.Random, np.random.RandomState)
        kinds += (np.random.Generator,)
        if self.changes:
            kinds += (*_PLAIN, np.ndarray, np.generic)
        found = []
        for name, value in attributes.items():
            is_kept = isinstance(value, kinds)
            if isinstance(value, np.ndarray):
                is_kept = is_kept and value.dtype != np.dtype(object)
            if isinstance(value, list):
                is_kept = self.changes and _is_plain(value)
            if is_kept:
                found.append((name, value))
        return found


def _is_plain(values: list[Any]) -> bool:
    return all(isinstance(one, (*_PLAIN, np.generic)) for one in values)


def _is_large(value: Any) -> bool:
    """Whether something is kept only where it has changed: no index of samples."""
    if not isinstance(value, np.ndarray):
        return isinstance(value, list) and any(isinstance(one, str) for one in value)
    return value.ndim != 1 or not np.issubdtype(value.dtype, np.integer)


def _mark(value: Any) -> int | None:
    if isinstance(value, list):
        return zlib.crc32(repr(value).encode())
    if not isinstance(value, np.ndarray):
        return None
    rows = np.atleast_1d(value)
    stride = max(rows.nbytes // _COMPARED_BYTES, 1)
    return zlib.crc32(np.ascontiguousarray(rows[::stride]).view("uint8").tobytes())


def _kept(value: Any) -> Any:
    if isinstance(value, random.Random):
        return {"random": value.getstate()}
    if isinstance(value, np.random.RandomState):
        return {"random": value.get_state(legacy=False)}
    if isinstance(value, np.random.Generator):
        return {"random": value.bit_generator.state}
    return {"value": np.array(value) if isinstance(value, np.ndarray) else value}


def _put(dataset: Any, name: str, kept: dict[str, Any]) -> None:
    if "value" in kept:
        value, present = kept["value"], getattr(dataset, name, None)
        if isinstance(present, np.ndarray) and present.shape == np.shape(value):
            present[...] = value  # Others may hold the same array.
        else:
            setattr(dataset, name, value)
        return
    generator, state = getattr(dataset, name), kept["random"]
    if isinstance(generator, random.Random):
        version, numbers, spare = state
        generator.setstate((version, tuple(numbers), spare))
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.bit_generator.state = state
