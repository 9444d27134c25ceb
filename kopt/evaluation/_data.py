"""What people measure on: pairs of inputs and labels, however they hold them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np


def inputs_and_labels(data: Any) -> tuple[Any, Any]:
    """`(x, y)` as arrays in the model's structure; y is None where there are no labels.

    Args:
        data: A pair `(x, y)`, a triple with sample weights, which are not used, inputs
            alone, or a finite data set of batches of these: a `tf.data.Dataset` or a
            `keras.utils.PyDataset`.
    """
    if isinstance(data, keras.utils.PyDataset):
        data = [data[index] for index in range(len(data))]
        return _joined(data)
    if hasattr(data, "element_spec"):
        return _joined(data)
    return _arrays(_pair(data))


def _pair(data: Any) -> tuple[Any, Any]:
    if not isinstance(data, tuple):
        return data, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            "`data` must be (x, y), or x alone; several inputs go into a dict or a "
            f"list. Received a tuple of {len(data)}."
        )
    return data[0], data[1] if len(data) > 1 else None


def _arrays(structure: Any) -> Any:
    return keras.tree.map_structure(
        lambda part: None if part is None else np.asarray(part), structure
    )


def _joined(batches: Iterable[Any]) -> tuple[Any, Any]:
    pairs = [_arrays(_pair(batch)) for batch in batches]
    if not pairs:
        raise ValueError("`data` is empty.")
    return keras.tree.map_structure(
        lambda *parts: None if parts[0] is None else np.concatenate(parts), *pairs
    )
