"""What methods with a step length for each layer share: trust ratios and exceptions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from keras import ops

from kopt.optimizers._transforms import sum_of_squares


def ratio(numerator: Any, denominator: Any) -> Any:
    """`numerator / denominator`, or 1 where one of the two norms is 0."""
    usable = ops.logical_and(numerator > 0, denominator > 0)
    safe = ops.where(usable, denominator, ops.ones_like(denominator))
    return ops.where(usable, numerator / safe, ops.ones_like(numerator))


def length(tensor: Any) -> Any:
    """The Euclidean norm of all numbers of a tensor."""
    return ops.sqrt(sum_of_squares(tensor))


def checked_patterns(name: str, patterns: Sequence[str] | None) -> list[str] | None:
    """Regular expressions, as a list.

    Raises:
        TypeError: If they are not a list of strings.
        ValueError: If one is not a regular expression.
    """
    if patterns is None:
        return None
    listed = None if isinstance(patterns, str) else list(patterns)
    if listed is None or not all(isinstance(pattern, str) for pattern in listed):
        raise TypeError(
            f"`{name}` must be a list of regular expressions for variable paths. "
            f'Received: {name}={patterns!r}. Write {name}=["bias", "gamma", "beta"].'
        )
    for pattern in listed:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"`{name}` must hold regular expressions. Received: {pattern!r} "
                f"({error}). Escape special characters with `re.escape`."
            ) from error
    return listed


def matches(patterns: Sequence[str] | None, variable: Any) -> bool:
    """Whether one of the regular expressions is found in a variable's path."""
    return any(re.search(pattern, variable.path) for pattern in patterns or ())
