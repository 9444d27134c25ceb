"""What people measure on: pairs of inputs and labels, however they hold them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from kopt import _data
from kopt._data import Pair, Specs


def inputs_and_labels(data: Any, specs: Specs | None = None) -> tuple[Any, Any]:
    """`(x, y)` as arrays in the model's structure; y is None where there are no labels.

    Args:
        data: Finite data, in any form that `kopt._data.read` takes; sample weights are
            not used.
        specs: What the model takes; None or empty if it does not tell.
    """
    specs = specs or {}
    read = _data.read("data", data, specs)
    if read.whole is not None:
        return read.whole.x, read.whole.y
    pairs = list(_data.in_batches(read, 32, specs))
    if not pairs:
        raise ValueError(f"`data` is empty. {_data.ACCEPTED}")
    return _joined([pair.x for pair in pairs]), _labels(pairs)


def _labels(pairs: list[Pair]) -> Any:
    if any(pair.y is None for pair in pairs):
        return None
    return _joined([pair.y for pair in pairs])


def _joined(parts: list[Any]) -> Any:
    return keras.tree.map_structure(lambda *leaves: np.concatenate(leaves), *parts)
