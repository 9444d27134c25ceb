"""Hyperparameters that can move while an optimizer trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from kopt import _checks


class Movable:
    """Turns attributes into variables that a callback may move; they read the same.

    Before Keras's class in the order of bases. The optimizer gives `add_scalar`.
    """

    if TYPE_CHECKING:

        def add_scalar(self, name: str, value: float) -> keras.Variable: ...

    #: Scalars that a callback may move: name to variable. Empty before the build.
    hyperparameters: dict[str, keras.Variable]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # As they were last set. Past `__setattr__`: nothing for Keras to track.
        self.__dict__["_written"] = {}
        super().__init__(*args, **kwargs)
        self.hyperparameters = {}

    def make_movable(self, *names: str) -> None:
        """Keep attributes in variables from now on, but for those that are `None`."""
        for name in names:
            if getattr(self, name) is not None:
                scalar = self.add_scalar(name, getattr(self, name))
                self.hyperparameters[name] = scalar
                self.__dict__["_written"][name] = self.__dict__.pop(name)

    def __setattr__(self, name: str, value: Any) -> None:
        scalar = self.__dict__.get("hyperparameters", {}).get(name)
        if scalar is not None:
            scalar.assign(_checks.number(name, value, low=0))
            self.__dict__["_written"][name] = value
            return
        super().__setattr__(name, value)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Only asked for what the object has not: what became a variable.
            if name in self.__dict__.get("_written", {}):
                return self._present(name)
            kind = type(self).__name__
            raise AttributeError(f"{kind!r} object has no attribute {name!r}")

    def _present(self, name: str) -> float:
        """A hyperparameter as it was set, unless something has moved its variable."""
        written = self.__dict__["_written"][name]
        if not tf.executing_eagerly():
            return written  # In a graph it would be a constant.
        present = self.hyperparameters[name].numpy()
        return written if present == present.dtype.type(written) else float(present)
