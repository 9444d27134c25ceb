"""The layer that a variable belongs to, for code that is given variables alone.

A Keras variable knows its path, which names layers but not their classes. Keras keeps
no register of layers and calls nothing when it makes one. What leads from a variable to
its layer, without changing Keras, is Python's own list of live objects. It is complete
at any time: for layers that were built before kopt was imported, in a custom loop
without a model, for models that were cloned or loaded.

`_trainable_variables` and `_non_trainable_variables` are the lists in which a layer
keeps its own variables; `trainable_variables` has those of the layers inside as well.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import Any

import keras

from kopt._living import living

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
    # A layer's variables have its name in their path; others need no search.
    made = [variable for variable in variables if "/" in variable.path]
    if not _all_known(made):
        _survey = _surveyed()
        if not _all_known(made) and gc.get_freeze_count():
            # `gc.freeze` has taken older objects off the list.
            _survey = _surveyed(_reachable())
    return [_known(variable) for variable in variables]


def _all_known(variables: Sequence[Any]) -> bool:
    return all(_known(variable) is not None for variable in variables)


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


def _surveyed(things: Iterable[Any] | None = None) -> dict[int, _Entry]:
    survey: dict[int, _Entry] = {}
    for layer in living(keras.Layer, things):
        for variable in _own_variables(layer):
            entry = survey.setdefault(id(variable), (weakref.ref(variable), []))
            entry[1].append(weakref.ref(layer))
    return survey


def _reachable() -> Iterator[Any]:
    """All objects that lead to others, by what leads to them; takes some seconds."""
    seen: set[int] = set()
    found = [*gc.get_objects(), *sys.modules.values(), *_local_values()]
    while found:
        new = {id(one): one for one in found if gc.is_tracked(one)}
        new = {key: one for key, one in new.items() if key not in seen}
        seen.update(new)
        yield from new.values()
        found = gc.get_referents(*new.values())


def _local_values() -> Iterator[Any]:
    """What the functions that are running hold in their variables."""
    for innermost in sys._current_frames().values():
        frame: FrameType | None = innermost
        while frame is not None:
            yield from frame.f_locals.values()
            frame = frame.f_back


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
