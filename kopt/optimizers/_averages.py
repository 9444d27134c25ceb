"""The moving averages of an optimizer with `use_ema`, and the way to them and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from kopt.optimizers._fingerprints import Fingerprints
from kopt.optimizers._places import EVALUATION, NEW, TRAINING, Places, is_frozen
from kopt.optimizers._plan import Plan
from kopt.optimizers._tracks import PUT_ASIDE, Track, read, write

if TYPE_CHECKING:
    from kopt.optimizers._base import Optimizer
    from kopt.optimizers._engine import Engine

# Keras's `SwapEMAWeights` adds and subtracts to swap, and so rounds the weights.
_ROUNDING = 1e-3


class Averages:
    """Moves the averages of one built optimizer, and brings the model to them.

    Args:
        optimizer: The optimizer, with `use_ema`.
        plans: Its variables; those that are averaged have an `average`.
    """

    def __init__(self, optimizer: Optimizer, plans: list[Plan]) -> None:
        self._optimizer = optimizer
        self._tracks = [_track(plan) for plan in plans]
        self.point = optimizer.add_variable(
            shape=(),
            initializer=lambda shape, dtype: keras.ops.full(shape, NEW, dtype),
            dtype="int32",
            aggregation="only_first_replica",
            name="point",
        )
        self._places = Places(self._tracks, self.point, "average", _restart)
        self._written = Fingerprints(
            [plan.variable for plan in plans],
            lambda: optimizer.batches.value,
            tolerance=_ROUNDING,
        )

    # In a step.

    def settle(self) -> None:
        """Before a step: bring the model to where it is trained."""
        self._places.settle(self._written.changed())

    def move(self, plan: Plan, taken: Any = None) -> None:
        """After a step: move a variable's average.

        Args:
            plan: The variable.
            taken: A boolean tensor, whether the variable took a step; `None` if it is
                known that it did.
        """
        optimizer = self._optimizer
        average, variable = plan.average.value, plan.variable.value
        # The first average is the first weights.
        started = tf.cast(optimizer.iterations > 0, plan.dtype)
        momentum = optimizer.hyperparameters.get("ema_momentum")
        if momentum is None:
            share = 1 - started * optimizer.ema_momentum
        else:
            share = 1 - started * tf.cast(momentum.value, plan.dtype)
        if taken is not None:
            share = share * tf.cast(taken, plan.dtype)
        present = tf.cast(variable, plan.dtype)
        average.assign_add(share * (present - average))
        every = optimizer.ema_overwrite_frequency
        if every:
            due = (optimizer.iterations + 1) % every == 0
            if taken is not None:
                due &= taken
            value = tf.where(due, tf.cast(average, variable.dtype), variable)
            variable.assign(value)

    def note(self, batches: Any = None) -> None:
        """Remember the weights that a step left, or that were written otherwise.

        Args:
            batches: What the counter of batches is going to be, after a step.
        """
        self._written.note(batches)

    # Between steps.

    def forget(self) -> None:
        """Take the weights as they will be found: they were loaded."""
        self._written.forget()

    def written(self) -> np.ndarray:
        """What the model is known by, for a saved state."""
        return self._written.numbers()

    def restore(self, written: np.ndarray | None) -> None:
        """Know the model by what a saved state has, if it has that."""
        self._written.restore(written)

    def swap_to_eval(self) -> None:
        """Bring the model to the averages, if it is not there and there are some."""
        self._start_again()
        if self._places.holds(TRAINING):
            self._places.to_eval()
            for track in self._tracks:
                if track.slots and not is_frozen(track):
                    constrain(track.variable)
        self.note()

    def swap_to_train(self) -> None:
        """Bring the model back to the weights that it is trained at."""
        self._start_again()
        if self._places.holds(EVALUATION):
            self._places.to_train()
        self.note()

    def finalize(self, variables: Iterable[keras.Variable]) -> None:
        """Write the averages of some variables over them."""
        self._start_again()
        if self._places.holds(TRAINING):
            wanted = {id(variable) for variable in variables}
            for track in self._tracks:
                if track.slots and id(track.variable) in wanted:
                    write(track.variable, read(track.slots["average"]))
                    constrain(track.variable)
        self.note()

    def _start_again(self) -> None:
        """From the weights that somebody else has written."""
        changed = np.flatnonzero(self._written.changed())
        self._places.restart(t for t in self._tracks if t.slots and t.index in changed)


class Averaging:
    """What an optimizer with `use_ema` can be asked for.

    Before Keras's class in the order of bases.
    """

    _engine: Engine | None

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Write the moving averages of some variables into the model, if `use_ema`.

        Constraints hold afterwards. Variables that are not in `var_list`, and all
        before the first update, stay as they are.
        """
        if self._averages:
            self._averages.finalize(var_list)

    def swap_to_eval(self) -> None:
        """Bring the model to its moving averages, if `use_ema`.

        Nothing happens if it holds them, or before the first update. The next step
        takes the model back first.
        """
        if self._averages:
            self._averages.swap_to_eval()

    @property
    def point(self) -> keras.Variable | None:
        """Records whether the model holds its averages; `None` without `use_ema`."""
        return self._averages.point if self._averages else None

    def swap_to_train(self) -> None:
        """Bring the model back from its moving averages, bit for bit."""
        if self._averages:
            self._averages.swap_to_train()

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the values of `variables`, in their order."""
        super().set_weights(weights)  # type: ignore[misc]
        if self._averages:
            self._averages.forget()

    @property
    def _averages(self) -> Averages | None:
        return self._engine.averages if self._engine else None


def _track(plan: Plan) -> Track:
    slots = {"average": plan.average, PUT_ASIDE: plan.put_aside}
    kept = {name: slot for name, slot in slots.items() if slot is not None}
    return Track(plan.index, plan.variable, plan.dtype, kept)


def _restart(track: Track) -> None:
    for slot in track.slots.values():
        write(slot, read(track.variable))


def constrain(variable: Any, when: Any = None) -> None:
    """Apply the constraint that a variable may have, where `when` holds."""
    if variable.constraint is None:
        return
    value = variable.constraint(variable)
    if when is not None:
        value = tf.where(when, tf.convert_to_tensor(value), read(variable))
    variable.assign(value)
