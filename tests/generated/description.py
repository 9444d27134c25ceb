"""What a generated situation is described by: plain data that prints as Python.

A description is drawn by Hypothesis, printed where a law fails, and can be pasted into
a test: its `repr` names only what differs from the defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any


class Description:
    """The base of all descriptions, which are frozen dataclasses."""

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != _default(field)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def but(self, **changes: Any) -> Any:
        """The same description with other values in some fields."""
        return dataclasses.replace(self, **changes)


def read(text: str) -> Any:
    """What a description's `repr` describes."""
    return eval(text, {kind.__name__: kind for kind in kinds()})


def kinds(base: type = Description) -> list[type]:
    """All classes of descriptions."""
    return [base, *(kind for sub in base.__subclasses__() for kind in kinds(sub))]


def features(value: Any, name: str = "") -> Iterator[str]:
    """What a description contains, as words that statistics can count.

    Descriptions count by their class, texts and flags by their field, the keys of a
    dictionary by field and value.
    """
    if isinstance(value, Description):
        yield type(value).__name__
        for field in dataclasses.fields(value):
            if getattr(value, field.name) != _default(field):
                yield from features(getattr(value, field.name), field.name)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield f"{name} {key}"
            yield from features(item, key)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from features(item, name)
    elif isinstance(value, str):
        yield f"{name}={value}"
    elif value is not None:
        yield name


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
