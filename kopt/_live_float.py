"""Numbers that a compiled step reads anew each time, so that they can be moved."""

from __future__ import annotations

from typing import Any, overload

import keras
import numpy as np

from kopt import _checks


class LiveFloat:
    """A float attribute that lives in a scalar variable.

    Outside it looks like a plain float: `layer.rate = 0.3` sets it, `layer.rate` reads
    it. A compiled step reads the variable, `layer._rate`, so a new value counts from
    the next step on and nothing is traced again.

    The variable is no weight: Keras neither tracks nor trains it, nor puts it into
    weight files. The number belongs into the owner's `get_config`.

    Args:
        low: Smallest value accepted.
        high: Largest value accepted.
    """

    def __init__(self, *, low: float | None = None, high: float | None = None) -> None:
        self.low = low
        self.high = high

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.slot = f"_{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> LiveFloat: ...
    @overload
    def __get__(self, instance: object, owner: type) -> float: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        return _shortest(getattr(instance, self.slot))

    def __set__(self, instance: Any, value: Any) -> None:
        variable = vars(instance).get(self.slot)
        if variable is not None:
            variable.assign(self._check(value))
            return
        if isinstance(value, keras.Variable):
            self._check(value)
            variable = value
        else:
            variable = _scalar(self.name, self._check(value))
        # Past the owner's `__setattr__`: a Keras layer would make it a weight.
        vars(instance)[self.slot] = variable

    def _check(self, value: Any) -> float:
        if isinstance(value, np.ndarray | keras.Variable) or keras.ops.is_tensor(value):
            array = keras.ops.convert_to_numpy(value)
            value = array.item() if array.ndim == 0 else array
        return _checks.number(self.name, value, low=self.low, high=self.high)


def _scalar(name: str, value: float) -> keras.Variable:
    return keras.Variable(
        # An initializer, not a number: it also works inside a stateless scope.
        keras.initializers.Constant(value),
        shape=(),
        dtype="float32",
        trainable=False,
        # Half precision would move 0.001 to 0.00099945.
        autocast=False,
        # Keras addresses the state of a model by path, so no two may have the same.
        name=f"{name}_{keras.backend.get_uid(name)}",
    )


def _shortest(variable: keras.Variable) -> float:
    # The shortest decimal that rounds to the same float32: 0.1, not 0.10000000149.
    return float(str(np.float32(variable.numpy())))
