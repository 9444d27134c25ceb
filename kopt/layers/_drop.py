"""The mathematics of dropping, on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def keep_mask(shape: Sequence[Any], rate: Any, seed: keras.random.SeedGenerator) -> Any:
    """Booleans that are true with probability `1 - rate`, independently.

    Args:
        shape: Shape of the mask; entries may be scalar tensors.
        rate: Scalar from 0 (all true) to 1 (all false).
        seed: Where the random numbers come from; its state moves on.
    """
    # Always drawn in float32. A draw in bfloat16 takes one of 128 values: a rate of
    # 0.001 would drop one number in 128.
    return keras.random.uniform(shape, dtype="float32", seed=seed) >= rate


def drop(values: Any, keep: Any, rate: Any) -> Any:
    """Scale `values` by `1 / (1 - rate)` where `keep` is true, and zero the rest.

    The product is taken in at least float32 and rounded once: in bfloat16 the factor
    itself would be off by up to 0.4 %, and with it the mean of all outputs.

    Args:
        values: Floating-point array.
        keep: Booleans that broadcast to `values`.
        rate: The scalar that `keep` was drawn with.
    """
    if not keras.backend.is_float_dtype(values.dtype):
        raise TypeError(
            "Only floating-point values can be scaled where others are dropped. "
            f"Received: {values.dtype} of shape {tuple(values.shape)}. Cast them first."
        )
    wide = keras.backend.result_type(values.dtype, "float32")
    kept = 1 - ops.cast(rate, wide)
    # With a rate of 1 nothing is kept; a factor of 1 / 0 would make NaN gradients.
    factor = 1 / ops.where(kept > 0, kept, ops.ones_like(kept))
    scaled = ops.cast(ops.cast(values, wide) * factor, values.dtype)
    return select(scaled, keep)


def select(values: Any, keep: Any) -> Any:
    """`values` where `keep` is true, zero elsewhere."""
    return ops.where(keep, values, ops.cast(0, values.dtype))
