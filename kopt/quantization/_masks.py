"""Softmax over scores of which some are masked, on integer grids.

In float a mask is a number far below all others, such as -1e9. On an integer grid
that number would leave no steps for the scores themselves, so the lowest value of the
grid stands for it, some way below the lowest score.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kopt.quantization._common_grid import to_grid
from kopt.quantization._layer_quantizer import OUTPUT
from kopt.quantization._relevant_values import below


def softmax_mask(layer: Any, inputs: int) -> dict[str, None]:
    """The range that a softmax has where it is called with a mask."""
    return {"scores": None}


def several_axes(layer: Any, inputs: int) -> str:
    """Why a softmax cannot be computed here, or nothing."""
    axis = layer.axis if isinstance(layer, keras.layers.Softmax) else -1
    several = isinstance(axis, (tuple, list)) and len(axis) > 1
    return "the runtime has no softmax over several axes" if several else ""


def softmax(layer: Any, inputs: Any, mask: Any = None) -> Any:
    """A `Softmax`, with a mask or without."""
    if mask is None:
        return layer.float_class.call(layer, inputs)
    axis = layer.axis[0] if isinstance(layer.axis, (tuple, list)) else layer.axis
    keep = is_kept(mask)
    scores = masked_scores(layer, inputs, keep, axis)
    return without_masked(layer, ops.softmax(scores, axis=axis), keep, OUTPUT)


def is_kept(mask: Any) -> Any:
    """A mask of any type as booleans."""
    if keras.backend.standardize_dtype(mask.dtype) == "bool":
        return mask
    return ops.greater(mask, ops.cast(0.5, mask.dtype))


def masked_scores(layer: Any, scores: Any, keep: Any, axis: int = -1) -> Any:
    """Scores on the range `"scores"`, whose lowest value stands for a masked one."""
    rounded, one = layer.quantizer.rounded, layer.quantizer.ranges["scores"]
    if layer.quantizer.snapped:
        # The converter is to see that both are on one grid.
        return rounded("scores", ops.where(keep, to_grid(one, scores), one.low))
    # Calibration and training make room for it: rounding cuts it off at the range.
    lowest = ops.stop_gradient(ops.min(scores)) - below(scores, axis)
    if one.observer is None:
        lowest = ops.minimum(lowest, one.low.value)
    return rounded("scores", ops.where(keep, scores, lowest))


def without_masked(layer: Any, probabilities: Any, keep: Any, role: str) -> Any:
    """Probabilities on the range of a role, zero where all of a row is masked."""
    rounded = layer.quantizer.rounded
    return rounded(role, ops.where(keep, rounded(role, probabilities), 0.0))
