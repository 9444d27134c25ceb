"""The one list of everything that kopt offers, by area.

`@register("layers")` puts a class on Keras's list of serializable objects (as
`kopt>Name`) and on the area's own list here. `get`, listings, the README's table
and the conformance tests all read this list; there is no second one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import keras

T = TypeVar("T")

_AREAS: dict[str, dict[str, Any]] = {}


def register(area: str, *, serializable: bool = True) -> Callable[[T], T]:
    """Enter a class or a function in an area's list under its own name.

    Args:
        area: The area, named like its module: `"layers"`, `"pruning"`.
        serializable: Whether Keras has to find a class again when it loads a saved
            object. Functions and callbacks are never looked up by Keras.

    Raises:
        ValueError: If the area already has another object of that name.
    """

    def enter(thing: T) -> T:
        name: str = getattr(thing, "__name__")  # noqa: B009 - T has no __name__
        entries = _AREAS.setdefault(area, {})
        if entries.get(name, thing) is not thing:
            raise ValueError(
                f"kopt.{area} already has a {name!r}: {entries[name]!r}. "
                "Give the new one another name."
            )
        if serializable and inspect.isclass(thing):
            keras.saving.register_keras_serializable(package="kopt")(thing)
        entries[name] = thing
        return thing

    return enter


def areas() -> list[str]:
    """The areas that have at least one entry, sorted."""
    return sorted(_AREAS)


def names(area: str) -> list[str]:
    """The public names of an area, sorted."""
    return sorted(_AREAS.get(area, {}))


def entry(area: str, name: str) -> Any:
    """The class or function `name` of `area`, however its case is written.

    Raises:
        ValueError: If the area has no such name; the message lists those it has.
    """
    wanted = name.replace("_", "").lower()
    for known, thing in _AREAS.get(area, {}).items():
        if known.replace("_", "").lower() == wanted:
            return thing
    raise ValueError(
        f"kopt.{area} has no {name!r}. It has: {', '.join(names(area)) or 'nothing'}."
    )


def get(area: str, identifier: Any, **arguments: Any) -> Any:
    """An object of an area from whatever a user may write for it.

    Args:
        area: The area to look in.
        identifier: A name (`"drop_path"`, `"DropPath"`), a class, a dict as
            `keras.saving.serialize_keras_object` makes it, or a finished object,
            which comes back as it is.
        **arguments: Constructor arguments where `identifier` is a name or a class.

    Raises:
        ValueError: If a name is unknown, or if arguments are given with a finished
            object.
    """
    if isinstance(identifier, str):
        return entry(area, identifier)(**arguments)
    if inspect.isclass(identifier):
        return identifier(**arguments)
    if arguments:
        raise ValueError(
            f"Arguments {sorted(arguments)} were given together with a finished "
            f"object {identifier!r}. Set them when you construct the object."
        )
    if isinstance(identifier, dict):
        return keras.saving.deserialize_keras_object(identifier)
    return identifier
