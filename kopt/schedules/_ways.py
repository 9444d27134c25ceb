"""The shapes of the way from one value to another.

Each is the weight that the first value still has, where `remaining` of the way, from 1
down to 0, is to go. They are exact at both ends, and precise near the last one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from keras import ops


def linear(remaining: Any) -> Any:
    return remaining


def cosine(remaining: Any) -> Any:
    # (1 + cos(pi (1 - r))) / 2 as sin^2(pi/2 r), without the cancellation of 1 + cos.
    return ops.square(ops.sin(0.5 * math.pi * remaining))


def one_minus_root(remaining: Any) -> Any:
    # 1 - sqrt(1 - r), multiplied above and below by 1 + sqrt(1 - r).
    return remaining / (1.0 + ops.sqrt(1.0 - remaining))


def rex(remaining: Any) -> Any:
    return remaining / (0.5 + 0.5 * remaining)


def between(
    first: Any, last: Any, remaining: Any, way: Callable[[Any], Any] = linear
) -> Any:
    """The value where `remaining` of the way from `first` to `last` is to go."""
    weight = way(ops.clip(remaining, 0.0, 1.0))
    return first * weight + last * (1.0 - weight)


def along(
    step: Any,
    first: float,
    last: float,
    *,
    begin: int = 0,
    end: int,
    way: Callable[[Any], Any] = linear,
) -> Any:
    """The value on a way that looks the same from both ends: a line or a half wave.

    It is taken from the lower end, where rounding would show: 1 - weight has few
    correct digits beside a weight near 1.
    """
    size = max(end - begin, 1)
    if first < last:
        return between(last, first, (step - begin) / size, way)
    return between(first, last, (end - step) / size, way)
