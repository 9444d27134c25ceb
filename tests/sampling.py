"""Which cases of a large matrix run every time."""

from collections.abc import Hashable, Iterable
from typing import Any

import pytest


def sampled(
    values: Iterable[Any],
    usual: Iterable[Hashable],
    others: pytest.MarkDecorator = pytest.mark.thorough,
) -> list[Any]:
    """The values for `parametrize`; those that are not `usual` have a mark.

    Tuples are values of several arguments.
    """
    chosen = set(usual)
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            marks=[] if value in chosen else others,
        )
        for value in values
    ]
