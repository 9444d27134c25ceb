"""The other callbacks of a `fit`.

Keras hands a callback the model and the length of the run, but nothing of the callbacks
that run beside it. They are in the list that is calling.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import keras


def callbacks_beside(
    callback: keras.callbacks.Callback,
) -> list[keras.callbacks.Callback]:
    """The other callbacks of the `fit` that is calling one, in their order.

    A callback that was passed twice stands beside itself. Empty where no list of Keras
    is calling, as in a loop of the user's own.
    """
    outermost = outermost_list()
    found = [] if outermost is None else list(_flat(outermost))
    places = [place for place, one in enumerate(found) if one is callback]
    return [one for place, one in enumerate(found) if place not in places[:1]]


def outermost_list() -> keras.callbacks.CallbackList | None:
    """The list of callbacks that `fit` is calling, which has all others in it."""
    return next(reversed(_calling()), None)


def _calling() -> list[keras.callbacks.CallbackList]:
    """The lists that `fit` is calling, from the innermost on."""
    found: list[keras.callbacks.CallbackList] = []
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.Model):
            break
        is_list = isinstance(caller, keras.callbacks.CallbackList)
        # Each of its methods has a frame.
        if is_list and not any(caller is one for one in found):
            found.append(caller)
        frame = frame.f_back
    return found


def _flat(
    callbacks: keras.callbacks.CallbackList,
) -> Iterator[keras.callbacks.Callback]:
    for one in callbacks.callbacks:
        if isinstance(one, keras.callbacks.CallbackList):
            yield from _flat(one)
        else:
            yield one


def go_first(callback: keras.callbacks.Callback) -> None:
    """Have a callback called before the others of its `fit`, from the next call on.

    What it adds to the logs is then seen by all, wherever the user put it. The lists
    are replaced, for they are being gone through.
    """
    inner: keras.callbacks.Callback = callback
    for one in _calling():
        others = [other for other in one.callbacks if other is not inner]
        if len(others) < len(one.callbacks):
            one.callbacks = [inner, *others]
        inner = one


def leave_out(callback: keras.callbacks.Callback, kind: type) -> None:
    """Have callbacks of a kind called no more in the `fit` that calls a callback.

    The lists are replaced, for they are being gone through: for the event that is being
    told, they may still be called.
    """
    for one in _calling():
        one.callbacks = [
            other
            for other in one.callbacks
            if other is callback or not isinstance(other, kind)
        ]
