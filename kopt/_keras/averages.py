"""The moving averages that an optimizer with `use_ema` keeps."""

from __future__ import annotations

import keras


def averages(
    optimizer: keras.optimizers.Optimizer,
) -> list[tuple[keras.Variable, keras.Variable]]:
    """Pairs of weights and their moving averages, in an optimizer with `use_ema`."""
    # Keras has no public way to either list.
    kept = getattr(optimizer, "_model_variables_moving_average", [])
    weights = optimizer._trainable_variables
    return [(v, a) for v, a in zip(weights, kept, strict=False) if a is not None]
