"""Whether what has no weights works on each channel by itself: it is tried out.

An operation can be followed if leaving channels out of its inputs is leaving them out
of its output. This holds of activations, pooling, sums and products, of users' own
functions as well; it fails for a softmax, or where the number of channels is written
into the operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np

from kopt._keras.graphs import PRODUCTS, GraphCall
from kopt._keras.model_state import state_kept

# They do the same at every place, so a few places tell.
_AT_EVERY_PLACE = (
    keras.layers.Activation,
    keras.layers.ActivityRegularization,
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.LeakyReLU,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.ReLU,
    keras.layers.Subtract,
)
_UNKNOWN_SIZE = 3


def of_each_channel(call: GraphCall, values: Sequence[np.ndarray]) -> np.ndarray | None:
    """Follow constants through a call that works on each channel by itself.

    Args:
        call: A call without weights.
        values: What the channels of each input are, NaN where they vary.

    Returns:
        The same for the output, or `None` if the call is of another kind.
    """
    shapes = [_tried_shape(call, tensor.shape) for tensor in call.inputs]
    floats = [keras.backend.is_float_dtype(t.dtype) for t in call.inputs]
    if len(call.outputs) != 1 or not all(floats) or not shapes:
        return None
    count = call.outputs[0].shape[-1]
    if {shape[-1] for shape in shapes} - {1} != {count} or len(shapes[0]) < 2:
        return None
    random = np.random.default_rng(0)
    arrays = [random.normal(size=shape).astype("float32") for shape in shapes]
    left = np.sort(random.permutation(count)[: count // 2])
    try:
        whole = _run(call, arrays)
        part = _run(call, [a[..., left] if a.shape[-1] > 1 else a for a in arrays])
        for array, known in zip(arrays, values, strict=True):
            array[..., ~np.isnan(known)] = known[~np.isnan(known)]
        constant = _run(call, arrays)
    # Whatever an operation raises on fewer channels, it cannot be followed.
    except Exception:
        return None
    if part.shape != (*whole.shape[:-1], len(left)) or whole.shape[-1] != count:
        return None
    if not np.allclose(whole[..., left], part, 1e-4, 1e-5, equal_nan=True):
        return None
    return _constants(call, constant.reshape(-1, count), values)


def applied(function: Callable[[Any], Any], values: np.ndarray) -> np.ndarray | None:
    """Constants after an activation, or `None` if that looks at several channels."""
    tried = np.random.default_rng(0).normal(size=(2, 8)).astype("float32")
    try:
        whole, part = (
            keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(x)))
            for x in (tried, tried[:, :3])
        )
    except Exception:
        return None
    if part.shape != (2, 3) or not np.allclose(whole[:, :3], part, atol=1e-6):
        return None
    known = ~np.isnan(values)
    given = keras.ops.convert_to_tensor(np.where(known, values, 0).astype("float32"))
    return np.where(known, keras.ops.convert_to_numpy(function(given)), np.nan)


def _constants(
    call: GraphCall, rows: np.ndarray, values: Sequence[np.ndarray]
) -> np.ndarray:
    known = np.all([np.broadcast_to(~np.isnan(v), rows.shape[1]) for v in values], 0)
    if isinstance(call.operation, PRODUCTS):
        known |= np.any([np.broadcast_to(v == 0, rows.shape[1]) for v in values], 0)
    known &= (rows == rows[0]).all(0)
    return np.where(known, rows[0], np.nan)


def _tried_shape(call: GraphCall, shape: Sequence[int | None]) -> tuple[int, ...]:
    sizes = [_UNKNOWN_SIZE if size is None else size for size in shape]
    if isinstance(call.operation, _AT_EVERY_PLACE):
        sizes[:-1] = [min(size, _UNKNOWN_SIZE) for size in sizes[:-1]]
    return tuple(sizes)


def _run(call: GraphCall, arrays: Sequence[np.ndarray]) -> np.ndarray:
    tensors = {
        id(symbol): keras.ops.convert_to_tensor(array, symbol.dtype)
        for symbol, array in zip(call.inputs, arrays, strict=True)
    }
    positional, named = call.arguments(tensors)
    layer = call.operation
    kept = state_kept(layer) if isinstance(layer, keras.Layer) else nullcontext()
    with kept:
        result = keras.ops.convert_to_numpy(layer(*positional, **named))
    return result.astype("float32")
