"""Bring an optimizer's state back to before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


class Resettable:
    """Remembers the first value of each variable that an optimizer creates.

    Before Keras's class in the order of bases.
    """

    def add_variable(
        self,
        shape: Any,
        initializer: Any = "zeros",
        dtype: Any = None,
        **options: Any,
    ) -> keras.Variable:
        variable = super().add_variable(  # type: ignore[misc]
            shape, initializer=initializer, dtype=dtype, **options
        )
        initializer = keras.initializers.get(initializer)
        # Past `__setattr__`: a list of pairs is nothing for TensorFlow to track.
        firsts = self.__dict__.setdefault("_firsts", [])
        firsts.append((variable, initializer))
        return variable

    def reset(self) -> None:
        """Bring the state back to before the first step."""
        raise NotImplementedError

    def put_back(self, kept: set[int]) -> None:
        """Give the variables their first values, all but those of the `id`s given."""
        for variable, initializer in self.__dict__.get("_firsts", []):
            if id(variable) not in kept:
                variable.assign(initializer(variable.shape, variable.dtype))


def reset(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> None:
    """Reset any optimizer: kopt's by its own method, Keras's from a new one.

    Args:
        optimizer: The optimizer.
        variables: What it was built on.
    """
    if isinstance(optimizer, Resettable):
        optimizer.reset()
        return
    new = type(optimizer).from_config(optimizer.get_config())
    new.build(list(variables))
    for variable, first in zip(optimizer.variables, new.variables, strict=True):
        if variable.name != "learning_rate":
            variable.assign(first)
