"""Keras's optimizer class, with the private names that kopt's optimizers need.

Keras has no public way to resolve a variable to its position, to count micro-steps or
to choose what a schedule counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from kopt import _checks
from kopt._keras.waiting_state import StateInWaiting
from kopt._variables import check_gradients


class KerasDoor(StateInWaiting):
    """What Keras calls, reduced to one hook: `take_step`."""

    def __init__(self, learning_rate: Any, **options: Any) -> None:
        super().__init__(_checked_rate(learning_rate), **options)

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the coming step."""
        return self._get_current_learning_rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        value = _checked_rate(value)
        schedule = self._learning_rate
        if isinstance(value, float) and not isinstance(schedule, keras.Variable):
            raise TypeError(
                "`learning_rate` cannot be set to a number: a schedule drives it. "
                f"Received: learning_rate={value}, with {schedule!r} in place. Compile "
                "with a float `learning_rate`, or set another schedule."
            )
        keras.optimizers.Optimizer.learning_rate.fset(self, value)

    def take_step(self, gradients: list[Any], positions: list[int]) -> Any:
        """Update the variables at `positions` by their gradients.

        Returns:
            How far the counter of batches is to go.
        """
        raise NotImplementedError

    def apply(
        self,
        grads: Sequence[Any],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Update variables by their gradients.

        Args:
            grads: One tensor or `tf.IndexedSlices` a variable; `None` where the loss
                does not depend on the variable.
            trainable_variables: The variables, in the order of `grads`. The first
                call builds the optimizer on them. Defaults to all that it was built on.

        Raises:
            ValueError: If the numbers differ, if no gradient is there at all, or if
                the optimizer was not built on one of the variables.
        """
        gradients = list(grads)
        if not gradients:
            return
        variables = self._asked_variables(gradients, trainable_variables)
        with keras.name_scope(self.name, caller=self):
            gradients, variables = self._filter_empty_gradients(gradients, variables)
            # Float8 layers hand their new scales over as "gradients".
            gradients, variables = self._overwrite_variables_directly_with_gradients(
                gradients, variables
            )
            counted = 1
            if gradients:
                counted = self.take_step(
                    gradients, [self.position(v) for v in variables]
                )
        # After the gradients: a batch that turns out to be missing, when data of
        # unknown length end, must not count.
        given = tf.nest.flatten(list(grads), expand_composites=True)
        with tf.control_dependencies([g for g in given if g is not None]):
            # Keras's own counter counts batches; `iterations` counts updates.
            self._iterations.assign_add(counted)

    def initial_rate(self) -> float | None:
        """The rate that was given, or the highest of the schedule, where it tells."""
        rate = self._learning_rate
        if isinstance(rate, keras.Variable):
            return float(rate.numpy()) or None
        for name in ("peak", "warmup_target", "initial_learning_rate"):
            value = getattr(rate, name, None)
            if isinstance(value, (int, float)) and value:
                return float(value)
        return None

    def rate_variable(self) -> keras.Variable | None:
        """The variable that holds the learning rate, unless a schedule drives it."""
        rate = self._learning_rate
        return rate if isinstance(rate, keras.Variable) else None

    @property
    def batches(self) -> keras.Variable:
        """Keras's counter, of batches; `iterations` counts updates."""
        return self._iterations

    def is_overwritten(self, variable: keras.Variable) -> bool:
        """Whether a "gradient" replaces the variable's value (float8 scales)."""
        return self._overwrite_variable_with_gradient(variable)

    def know(self, variables: Sequence[keras.Variable]) -> None:
        """Note the variables that the optimizer is built on."""
        # Past `__setattr__`, which would make the model's variables the optimizer's.
        self.__dict__["_trainable_variables"] = list(variables)
        for index, variable in enumerate(variables):
            self._trainable_variables_indices[self._var_key(variable)] = index

    def keras_lists(self, averages: list[Any], accumulators: list[Any]) -> None:
        """Lay averages and accumulators where Keras's callbacks look for them."""
        self.__dict__["_model_variables_moving_average"] = averages
        self.__dict__["_accumulated_gradients"] = accumulators

    def follow(self, inner: keras.optimizers.Optimizer) -> None:
        """Count with an inner optimizer; one's own counter and rate lie idle."""
        self.__dict__["_iterations"] = inner._iterations
        # Not taken off Keras's list: TensorFlow does not save a list once shortened.
        self._idle = len(self._variables)

    def own_variables(self) -> list[keras.Variable]:
        """The variables that this object created, but for those that lie idle."""
        return list(self._variables[self._idle :])

    def position(self, variable: keras.Variable) -> int:
        """The place of a variable among those that the optimizer was built on."""
        return self._get_variable_index(variable)

    def colocated(self, variable: keras.Variable) -> Any:
        """A scope that puts new variables on the device of `variable`."""
        return self._distribution_strategy.extended.colocate_vars_with(variable.value)

    @contextlib.contextmanager
    def own_scope(self) -> Iterator[None]:
        """A scope to create variables of the optimizer in after it was built."""
        with (
            self._distribution_strategy.scope(),
            keras.name_scope(self.name, caller=self),
        ):
            yield

    def _get_current_learning_rate(self) -> Any:
        # Keras lets schedules count batches; under accumulation ours count updates.
        if isinstance(
            self._learning_rate, keras.optimizers.schedules.LearningRateSchedule
        ):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    def _asked_variables(
        self, gradients: list[Any], variables: Sequence[keras.Variable] | None
    ) -> list[keras.Variable]:
        if variables is None:
            if not self.built:
                raise ValueError(
                    "The optimizer is not built, so `apply` needs the variables too. "
                    "Call `optimizer.apply(grads, variables)`, or "
                    "`optimizer.build(variables)` first."
                )
            variables = self._trainable_variables
        _check_replica_context()
        variables = list(variables)
        if len(gradients) != len(variables):
            raise ValueError(
                "`grads` must hold one gradient for each variable. Received: "
                f"{len(gradients)} gradients for {len(variables)} variables."
            )
        if not self.built:
            self.build(variables)
        self._check_variables_are_known(variables)
        check_gradients(gradients, variables)
        return variables


def _check_replica_context() -> None:
    strategy = tf.distribute.get_strategy()
    inside = tf.distribute.get_replica_context() is not None
    if strategy.num_replicas_in_sync > 1 and not inside:
        raise RuntimeError(
            f"`apply` adds up the gradients of {strategy.num_replicas_in_sync} "
            "replicas, so each of them must call it. Call it in a function that you "
            "pass to `strategy.run`."
        )


def variables_of(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The weights that a built optimizer keeps state for."""
    return list(optimizer._trainable_variables)


def accumulators(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """The sums of gradients that a built optimizer keeps, one a variable."""
    return list(getattr(optimizer, "_accumulated_gradients", []))


def schedule(optimizer: keras.optimizers.Optimizer) -> Any:
    """The schedule that drives an optimizer's learning rate, or `None`."""
    rate = optimizer._learning_rate
    kind = keras.optimizers.schedules.LearningRateSchedule
    return rate if isinstance(rate, kind) else None


def _checked_rate(value: Any) -> Any:
    """A non-negative float, a schedule, or a function without arguments."""
    if callable(value):
        return value
    if not isinstance(value, keras.Variable) and keras.ops.is_tensor(value):
        value = float(value)
    hint = "Pass a number or a `keras.optimizers.schedules.LearningRateSchedule`."
    return _checks.number("learning_rate", value, low=0, hint=hint)
