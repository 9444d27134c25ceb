"""Hyperparameters that can move while an optimizer trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from kopt import _checks
from kopt._keras.compiled import forget_training_steps


class Movable:
    """Turns attributes into variables that a callback may move; they read the same.

    Before Keras's class in the order of bases. The optimizer gives `add_scalar`.
    """

    if TYPE_CHECKING:
        built: bool

        def add_scalar(self, name: str, value: float) -> keras.Variable: ...

        def own_scope(self) -> Any: ...

    #: Scalars that a callback may move: name to variable. Empty before the build.
    hyperparameters: dict[str, keras.Variable]
    #: Arguments that `let_move` makes such variables of, decays from 0 to 1.
    may_move: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # As they were last set. Past `__setattr__`: nothing for Keras to track.
        self.__dict__["_as_set"] = {}
        super().__init__(*args, **kwargs)
        self.hyperparameters = {}

    def make_movable(self, *names: str) -> None:
        """Keep attributes in variables from now on, but for those that are `None`."""
        for name in names:
            if getattr(self, name) is not None:
                scalar = self.add_scalar(name, getattr(self, name))
                self.hyperparameters[name] = scalar
                self.__dict__["_as_set"][name] = self.__dict__.pop(name)

    def on_demand(self) -> tuple[str, ...]:
        """The arguments that `let_move` takes."""
        return self.may_move

    def let_move(self, name: str) -> keras.Variable:
        """The variable of an argument that nothing has moved so far.

        Until it is first asked for, the argument is a number that the compiled steps
        have copied, so that one that does not move costs nothing. Models that are
        trained by this optimizer trace their steps again then; a `tf.function` that
        the user wrote has to be made again by the user.

        Args:
            name: One of `on_demand`.

        Raises:
            ValueError: If there is no such argument, or the optimizer is not built.
        """
        if name not in self.on_demand():
            raise ValueError(
                f"{type(self).__name__} has no argument {name!r} that can be moved "
                f"while it trains. It has: {', '.join(self.on_demand()) or 'none'}."
            )
        if not self.built:
            raise ValueError(
                f"{type(self).__name__} is not built, so {name!r} is not in a variable "
                "yet. Call `optimizer.build(model.trainable_variables)` first."
            )
        if name not in self.hyperparameters:
            with self.own_scope():
                self.make_movable(name)
            forget_training_steps(self)
        return self.hyperparameters[name]

    def take_up_moved(self, stored: Iterable[str]) -> None:
        """Have variables for what had moved when a state was saved."""
        for name in set(self.on_demand()) & set(stored):
            self.let_move(name)

    def with_unmoved(self, stored: dict[str, Any]) -> dict[str, Any]:
        """A saved state with what had not moved yet, as it was set."""
        moved = set(self.on_demand()) & set(self.hyperparameters)
        first = {name: np.array(self.__dict__["_as_set"][name]) for name in moved}
        return {**first, **stored}

    def __setattr__(self, name: str, value: Any) -> None:
        scalar = self.__dict__.get("hyperparameters", {}).get(name)
        if scalar is not None:
            high = 1 if name in self.on_demand() else None
            scalar.assign(_checks.number(name, value, low=0, high=high))
            self.__dict__["_as_set"][name] = value
            return
        super().__setattr__(name, value)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Only asked for what the object has not: what became a variable.
            if name in self.__dict__.get("_as_set", {}):
                return self._present(name)
            kind = type(self).__name__
            raise AttributeError(f"{kind!r} object has no attribute {name!r}")

    def _present(self, name: str) -> float:
        """A hyperparameter as it was set, unless something has moved its variable."""
        written = self.__dict__["_as_set"][name]
        if not tf.executing_eagerly():
            return written  # In a graph it would be a constant.
        present = self.hyperparameters[name].numpy()
        return written if present == present.dtype.type(written) else float(present)
