"""State that comes before an optimizer has the variables to hold it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt._living import living


class StateInWaiting(keras.optimizers.Optimizer):
    """Keeps loaded state until the optimizer is built, and takes it up then."""

    built: bool
    #: What was loaded too early: by name, or in the order of `variables`.
    waiting: Mapping[str, Any] | list[Any] = MappingProxyType({})
    #: Whether a build on nothing announced state that has not come.
    announced = False
    #: The trainable variables of the model that was read with the state that waits.
    awaited: Sequence[keras.Variable] = ()

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of the optimizer; those that state waits for are made first."""
        self.take_up_early()
        return super().variables

    def take_up_early(self) -> None:
        """Take up state that waits, where a model tells for which variables."""
        if self.awaited:
            self.build(self.awaited)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the values of `variables`, all of them or none.

        Before the optimizer is built they wait until it is, as for a model that Keras
        reads from an `.h5` file.

        Raises:
            ValueError: If the optimizer is built and a number or shape differs.
        """
        self.__dict__["announced"] = False
        weights = [_numbers(weight) for weight in weights]
        variables = self.variables
        shapes = [tuple(variable.shape) for variable in variables]
        given = [tuple(np.shape(weight)) for weight in weights]
        if shapes == given:
            for variable, weight in zip(variables, weights, strict=True):
                variable.assign(weight)
        elif not self.built:
            self.__dict__.update(waiting=weights, awaited=_variables_beside(self))
        else:
            raise ValueError(
                f"`set_weights` needs one array for each of {self.name}'s "
                f"{len(shapes)} variables, in their order. Received shapes: {given}. "
                f"Expected: {shapes}. Nothing was set. Build the optimizer on the same "
                "trainable variables and with the same options that the values are of."
            )

    def may_build(self, variables: Sequence[keras.Variable]) -> bool:
        """Whether there is anything to build on, so that the build need not wait."""
        # Keras reads an `.h5` file so: it builds the optimizer on nothing, sets its
        # state, and leaves it to the first step to bring the variables.
        if not variables:
            self.__dict__["announced"] = True
        return bool(variables)

    def to_build_on(
        self, variables: Sequence[keras.Variable]
    ) -> Sequence[keras.Variable]:
        """The variables to build on, where it is asked to build on some.

        All of those that state waits for, though some may have been frozen since.
        """
        awaited = {id(variable) for variable in self.awaited}
        is_part = awaited.issuperset(id(variable) for variable in variables)
        return self.awaited if is_part else variables

    def forget_waiting(self) -> None:
        """Start without the state that waits."""
        self.__dict__.update(waiting={}, announced=False, awaited=())

    def take_up_waiting(self) -> None:
        """Load the state that came before there were variables to hold it."""
        waiting, announced = self.waiting, self.announced
        self.forget_waiting()
        if waiting:
            # The first step builds, and that may be in the middle of its trace.
            with tf.init_scope():
                if isinstance(waiting, list):
                    self._take_up_in_order(waiting)
                else:
                    self.load_own_variables(waiting)
        elif announced:
            warnings.warn(
                f"The optimizer {self.name!r} starts from a fresh state: it was built "
                "on no variables first, as Keras does when it reads an `.h5` file, and "
                "its saved state did not come. Save the model as a `.keras` file to "
                "resume with the state.",
                stacklevel=2,
            )

    def _take_up_in_order(self, weights: list[Any]) -> None:
        try:
            self.set_weights(weights)
        except ValueError as error:
            raise ValueError(
                f"{error} They were read from an `.h5` file, or set before there was "
                "anything to hold them. If layers were frozen or thawed since they "
                "were saved, call `model.optimizer.build(model.trainable_variables)` "
                "on the same ones before; a `.keras` file does not need it."
            ) from None

    def check_nothing_waits(self) -> None:
        """Take up what waits, or refuse to save what would not be whole.

        Raises:
            ValueError: If state from an `.h5` file waits to be taken up.
        """
        self.take_up_early()
        if isinstance(self.waiting, list):
            raise ValueError(
                f"The state of the optimizer {self.name!r} was read from an `.h5` file "
                "and cannot be saved before it is taken up. Call "
                "`model.optimizer.build(model.trainable_variables)` before you save."
            )


def _variables_beside(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The trainable variables of the model that is compiled with an optimizer."""
    for model in living(keras.Model):
        if getattr(model, "optimizer", None) is optimizer:
            return list(model.trainable_variables)
    return []


def _numbers(weight: Any) -> np.ndarray:
    """An array of numbers; an `.h5` file gives bfloat16 as bytes without a meaning."""
    array = np.array(weight)
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        return array.view(tf.bfloat16.as_numpy_dtype)
    return array
