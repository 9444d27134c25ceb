"""The layer that a variable belongs to, for code that is given variables alone.

A Keras variable knows its path, which names layers but not their classes, and Keras
keeps no register of layers and calls nothing when it makes one. What leads from a
variable to its layer without changing Keras is Python's own list of live objects. It is
complete at any time: for layers that were built before kopt was imported, in a custom
loop without a model, for models that were cloned or loaded. (Objects that `gc.freeze`
has hidden are not on it.)

`_trainable_variables` and `_non_trainable_variables` are the lists in which a layer
keeps its own variables; `trainable_variables` has those of the layers inside as well.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import keras

_LISTS = ("_trainable_variables", "_non_trainable_variables")

_Entry = tuple[weakref.ref[Any], list[weakref.ref[Any]]]

# What the last survey found, by the `id` of each variable.
_survey: dict[int, _Entry] = {}


def layers_of(variables: Sequence[Any]) -> list[keras.Layer | None]:
    """The layer that made each variable, or `None` where no live layer has it.

    A survey of all live objects takes about 0.1 s, so ask for all variables at once.
    What it finds is kept for the next time.
    """
    global _survey
    if any(_known(variable) is None for variable in variables):
        _survey = _surveyed()
    return [_known(variable) for variable in variables]


def _known(variable: Any) -> keras.Layer | None:
    """The layer that the last survey found, if it still has the variable."""
    found, layers = _survey.get(id(variable), (None, []))
    if found is None or found() is not variable:
        return None
    holders = [
        layer
        for layer in (reference() for reference in layers)
        if layer is not None and any(own is variable for own in _own_variables(layer))
    ]
    # Another layer may hold it too: a wrapper around the one that made it, or one that
    # is tied to it.
    return min(holders, key=lambda layer: _distance(layer, variable), default=None)


def _surveyed() -> dict[int, _Entry]:
    survey: dict[int, _Entry] = {}
    for thing in gc.get_objects():
        # Not `isinstance`, which asks proxies for what they stand for.
        if not issubclass(type(thing), keras.Layer):
            continue
        for variable in _own_variables(thing):
            entry = survey.setdefault(id(variable), (weakref.ref(variable), []))
            entry[1].append(weakref.ref(thing))
    return survey


def _own_variables(layer: keras.Layer) -> Iterable[keras.Variable]:
    # A layer that is being made has no lists yet.
    for name in _LISTS:
        yield from vars(layer).get(name, ())


def _distance(layer: keras.Layer, variable: keras.Variable) -> int:
    """How far a layer is from the one that a variable's path names."""
    parents = variable.path.split("/")[:-1]
    if layer.path == "/".join(parents):
        return 0
    return 1 if parents[-1:] == [layer.name] else 2
