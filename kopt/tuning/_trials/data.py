"""The user's data as arguments of `fit`, and as a mark that tells versions apart."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Of larger arrays a part is looked at: enough to tell versions of data apart.
_HASHED_BYTES = 1 << 24


def fit_data(data: Any, hp: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of `fit` that hand over the data.

    Args:
        data: Arrays `(x, y)` or `(x, y, sample_weight)`, each an array or a dict of
            them; a `tf.data.Dataset` or a `keras.utils.PyDataset`; a dict of arguments
            of `fit` with an `"x"`; or a function of nothing, or of `hp`, that returns
            one of these.
        hp: The hyperparameters of the trial.
    """
    if _is_function(data):
        data = data(hp) if _takes_argument(data) else data()
    if isinstance(data, Mapping) and "x" in data:
        named = dict(data)
        positional = [named.pop("x")]
        if "y" in named:
            positional.append(named.pop("y"))
        return tuple(positional), named
    if isinstance(data, (tuple, list)):
        if not 1 <= len(data) <= 3:
            raise TypeError(_refused(data))
        weights = {"sample_weight": data[2]} if len(data) == 3 else {}
        return tuple(data[:2]), weights
    if data is None or isinstance(data, (str, bytes, int, float)):
        raise TypeError(_refused(data))
    return (data,), {}


def check_reusable(data: Any, fit_arguments: Mapping[str, Any]) -> None:
    """Refuse data that the first trial would use up.

    Raises:
        TypeError: If data are a generator, or another iterator.
    """
    parts = {"data": data, "validation_data": fit_arguments.get("validation_data")}
    if isinstance(data, Mapping) and "x" in data:
        parts["data"] = data["x"]
        parts["validation_data"] = data.get("validation_data")
    for name, part in parts.items():
        if hasattr(part, "__next__"):
            raise TypeError(
                f"`{name}` is a {type(part).__name__}, which goes on where the trial "
                "before has left it. Give a function that makes it, for each trial "
                'again: data=lambda: {"x": batches(), "validation_data": others(), '
                '"steps_per_epoch": 100, "validation_steps": 10}.'
            )


def takes_hp(data: Any) -> bool:
    """Whether the data are a function of `hp`."""
    return _is_function(data) and _takes_argument(data)


def fingerprint(data: Any) -> str | None:
    """A mark of the data's shapes, types and values; `None` for functions."""
    if _is_function(data):
        return None
    mark = hashlib.sha256()
    for leaf in keras.tree.flatten(data):
        if isinstance(leaf, tf.data.Dataset):
            mark.update(repr((leaf.element_spec, int(leaf.cardinality()))).encode())
        elif isinstance(leaf, np.ndarray) or tf.is_tensor(leaf):
            _add_array(mark, np.asarray(leaf))
        else:
            mark.update(repr(type(leaf)).encode())
    return mark.hexdigest()[:16]


def _add_array(mark: Any, array: np.ndarray) -> None:
    mark.update(repr((array.shape, str(array.dtype))).encode())
    if array.dtype == object:
        return
    rows = np.atleast_1d(array)
    per_row = max(rows.nbytes // max(len(rows), 1), 1)
    stride = max(len(rows) * per_row // _HASHED_BYTES, 1)
    mark.update(np.ascontiguousarray(rows[::stride]).tobytes())


def _is_function(data: Any) -> bool:
    return isinstance(data, Callable) and not isinstance(  # type: ignore[arg-type]
        data, (tf.data.Dataset, keras.utils.PyDataset)
    )


def _takes_argument(function: Any) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(
        one.default is one.empty
        and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        for one in parameters
    )


def _refused(data: Any) -> str:
    return (
        "`data` must be (x, y), a tf.data.Dataset, a dict of arguments of `fit` with "
        "an 'x', or a function that returns one of these. Received: "
        f"{type(data).__name__} ({str(data)[:60]})."
    )
