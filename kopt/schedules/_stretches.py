"""Where in a run that is cut into stretches a step lies.

Exact also where XLA divides by multiplying with a reciprocal: at the first step of a
stretch a rounded quotient would still be in the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops


def place(step: Any, boundaries: Sequence[int]) -> Any:
    """How many of the boundaries are behind `step`, which counts as reached on one."""
    count = ops.cast(ops.zeros_like(step), "int32")
    for boundary in boundaries:
        count = count + ops.cast(step >= boundary, "int32")
    return count


def look_up(values: Sequence[float], place: Any) -> Any:
    """The float32 value of each place."""
    return ops.take(ops.convert_to_tensor(list(values), "float32"), place)


def cycle(step: Any, length: int) -> tuple[Any, Any]:
    """How many cycles of `length` are over at `step`, and its place in the present."""
    local = ops.mod(step, float(length))
    return ops.round((step - local) / length), local


def share_in_steps(value: int | float, whole: int, *, low: int = 0) -> int:
    """A number of steps, or a share of `whole` steps, as a number of steps."""
    return value if isinstance(value, int) else max(low, round(value * whole))


def check_room(whole: int | float, **parts: int | float) -> None:
    """Refuse parts that are together longer than the whole.

    Args:
        whole: A number of steps, or a fraction of a run that is not known yet.
        **parts: By argument: numbers of steps, or shares of the whole.

    Raises:
        ValueError: If it can be told that they are.
    """
    known = isinstance(whole, int)
    shares = [
        value if isinstance(value, float) else value / whole if known else 0.0
        for value in parts.values()
    ]
    if sum(shares) <= 1.0 + 1e-9:
        return
    received = ", ".join(f"{name}={value!r}" for name, value in parts.items())
    names = " and ".join(f"`{name}`" for name in parts)
    raise ValueError(
        f"{names} must not be longer together than the run they are parts of. "
        f"Received: {received}, steps={whole!r}. Shorten them, or raise `steps`."
    )
