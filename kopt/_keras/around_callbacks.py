"""Calls before and after those of all callbacks of a `fit`.

A callback is called in its turn. What looks at the state of all of them has to be
called when none of them is still to come, and what brings it back before the first;
where the user put it in the list must not matter. Keras has no public way to that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from kopt._keras.callbacks_beside import outermost_list

Action = Callable[..., None]


class AroundCallbacks:
    """Stands around the calls of the list of callbacks that is calling one.

    Args:
        callback: A callback, in its `on_train_begin`.

    Raises:
        ValueError: If no list of Keras is calling.
    """

    def __init__(self, callback: keras.callbacks.Callback):
        found = outermost_list()
        if found is None:
            raise ValueError(
                f"{type(callback).__name__} has to be called by `fit`. In a loop of "
                "your own hand the callbacks to `model.fit` instead."
            )
        self._list = found
        self._replaced: dict[str, Action] = {}

    def before(self, hook: str, action: Action) -> None:
        """Call `action` with the arguments of `hook` before all callbacks."""
        inner = getattr(self._list, hook)

        def call(*args: Any, **kwargs: Any) -> None:
            action(*args, **kwargs)
            inner(*args, **kwargs)

        self._replace(hook, call)

    def after(self, hook: str, action: Action) -> None:
        """Call `action` with the arguments of `hook` when all callbacks have been."""
        inner = getattr(self._list, hook)

        def call(*args: Any, **kwargs: Any) -> None:
            inner(*args, **kwargs)
            action(*args, **kwargs)

        self._replace(hook, call)

    def remove(self) -> None:
        """Give the list its own methods back."""
        for hook in self._replaced:
            vars(self._list).pop(hook, None)
        self._replaced = {}

    def _replace(self, hook: str, call: Action) -> None:
        self._replaced[hook] = call
        setattr(self._list, hook, call)
