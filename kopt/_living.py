"""Which objects of a kind are alive, from Python's own list of objects."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any


def living(kind: type, among: Iterable[Any] | None = None) -> list[Any]:
    """The objects of a class and of those that are made from it.

    Args:
        kind: The class.
        among: Where to look. Defaults to all objects that Python can list: not those
            that `gc.freeze` has taken off the list.
    """
    kinds, open_kinds = set(), [kind]
    while open_kinds:
        one = open_kinds.pop()
        if one not in kinds:
            kinds.add(one)
            open_kinds += type.__subclasses__(one)
    # Not `isinstance`, which asks proxies for what they stand for; and there are
    # millions, of which a look at the class alone takes a tenth of a second.
    things = gc.get_objects() if among is None else among
    return [thing for thing in things if type(thing) in kinds]
