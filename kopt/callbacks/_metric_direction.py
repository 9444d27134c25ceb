"""Whether a metric is better when lower or when higher."""

from __future__ import annotations

from typing import Literal

from kopt import _checks

_MODES = ("auto", "min", "max")
# Words of Keras's metrics that are better the higher, and those the lower.
_HIGHER = (
    "acc",
    "auc",
    "precision",
    "recall",
    "f1",
    "fbeta",
    "iou",
    "r2",
    "sensitivity",
)
_LOWER = ("loss", "error", "entropy", "mse", "mae", "rmse", "divergence", "perplexity")


def checked(monitor: str, mode: str) -> Literal["min", "max"]:
    """The direction of a metric, told by its name where `mode` is `"auto"`.

    Raises:
        ValueError: If it cannot be told, or `mode` is something else.
    """
    mode = _checks.one_of("mode", mode, _MODES)
    if mode != "auto":
        return "min" if mode == "min" else "max"
    low = any(word in monitor for word in _LOWER)
    high = any(word in monitor for word in _HIGHER)
    if low == high:
        raise ValueError(
            f"Whether {monitor!r} is better when lower or when higher cannot be told "
            "by its name. Say so: mode='min' or mode='max'."
        )
    return "min" if low else "max"
