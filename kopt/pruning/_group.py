"""Masks on variables, kept and renewed from inside the optimizer's update.

An optimizer applies a variable's constraint after each update. That is where the mask
lives: in every training loop, compiled or not, without a wrapper around the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kopt._keras.running_update import (
    Update,
    evaluated,
    moves_variables,
    running_update,
)
from kopt.pruning._criterion import Criterion, Magnitude
from kopt.pruning._layout import Layout
from kopt.pruning._pattern import Pattern
from kopt.pruning._units import UnitLayout, UnitPattern

Tensor = Any
Schedule = Callable[[Tensor], tuple[Tensor, Tensor]]


class MaskConstraint(keras.constraints.Constraint):
    """Holds the zeros of one variable, and the constraint that it had before.

    The earlier constraint sees the pruned weights, so that both hold in the end.
    """

    def __init__(self, variable: keras.Variable, layout: Layout | UnitLayout) -> None:
        self.variable = variable
        self.layout: Any = layout
        # No optimizer updates it, so none applies its constraint either.
        self.is_statistic = not variable.trainable
        self.inner = variable.constraint
        self.group: MaskGroup
        everything = np.ones(variable.shape, "bool")
        self.mask = _state_variable(variable, everything, f"{variable.name}_mask")
        # What the group's criterion keeps beside the weights, by name.
        self.memory: dict[str, keras.Variable] = {}

    def __call__(self, w: Tensor) -> Tensor:
        update = running_update()
        if update is not None:
            self.group.advance(update, self, w)
            w = self.group.criterion.unmasked(self, ops.convert_to_tensor(w))
            for average in evaluated(update, self.variable):
                # An average holds what a weight was before it was pruned, and becomes
                # the model's weights in the end.
                average.assign(self.masked(average))
        pruned = self.masked(w)
        if self.inner is None:
            return pruned
        pruned = self.masked(self.inner(pruned))
        if update is not None:
            self.group.criterion.settle(self, pruned)
        return pruned

    def remember(self, criterion: Criterion) -> None:
        """Make the variables that a criterion keeps beside the weights."""
        self.memory = {
            name: _state_variable(self.variable, value, f"{self.variable.name}_{name}")
            for name, value in criterion.memory(self.variable).items()
        }

    def masked(self, weights: Tensor) -> Tensor:
        """The weights with zeros where the mask has them."""
        weights = ops.convert_to_tensor(weights)
        return ops.where(self.mask.value, weights, ops.zeros((), weights.dtype))

    def candidate(self, weights: Tensor) -> Tensor:
        """The weights that a new mask is chosen from."""
        return weights if self.inner is None else self.inner(weights)


class MaskGroup(tf.Module):
    """Weights that are pruned as one: they count steps and share a budget together.

    Args:
        members: The constraints of the group's variables.
        schedule: Says at which steps the masks are renewed and how sparse they are
            then; not asked where the pattern fixes the sparsity.
        pattern: The shape of the zeros.
        criterion: What makes a weight worth keeping.
        shared: Whether the sparsity is that of all weights together, or of each.
    """

    def __init__(
        self,
        members: Sequence[MaskConstraint],
        schedule: Schedule,
        pattern: Pattern | UnitPattern,
        criterion: Criterion | None = None,
        shared: bool = True,
    ) -> None:
        super().__init__(name="mask_group")
        self.members = list(members)
        self.schedule = schedule
        self.pattern = pattern
        self.criterion = Magnitude() if criterion is None else criterion
        self.shared = shared
        for member in self.members:
            member.remember(self.criterion)
        # For TensorFlow's checkpoints, which do not look into constraints.
        self.masks = [member.mask for member in members]
        self.memories = [member.memory for member in members]
        # The training step that comes next, from 1.
        self.step = _state_variable(members[0].variable, np.array(1), "pruning_step")
        # Of each call of an optimizer the branches in which it was counted.
        self._counted: WeakKeyDictionary[Any, WeakSet[Any]] = WeakKeyDictionary()
        # Not `None` while the masks are of weights that may be replaced; see `copied`.
        self._provisional: keras.Variable | None = None
        for member in self.members:
            member.group = self
            member.variable.constraint = member

    def start(self) -> None:
        """Prune for step 1, if the schedule wants that."""
        if not self.criterion.ready:
            return
        if not self.pattern.is_scheduled or bool(self.schedule(self._next_step())[0]):
            self._renew({})
            self.apply()

    def copied(self, step: int) -> None:
        """Be a group whose configuration was copied when it had masks, at a step.

        A configuration has no masks. They are taken from the weights, for now and, as
        weights may be copied after it, again when training begins: the zeros there are
        the smallest of them.
        """
        self.step.assign(step)
        value = np.array(True)
        first = self.members[0].variable
        self._provisional = _state_variable(first, value, "provisional")
        self.settle()
        self._provisional.assign(True)

    def settle(self) -> None:
        """Take provisional masks from the weights as they are now, once for all."""
        if self._provisional is not None and bool(self._provisional.numpy()):
            self._renew({}, Magnitude())
            self._provisional.assign(False)
            self.apply()

    def keep_masks(self) -> None:
        """The masks are no longer provisional: they were read from a file."""
        self._provisional = None

    def begin_anew(self) -> None:
        """Keep the masks and forget what the weights were when they were chosen."""
        for member in self.members:
            for name, value in self.criterion.memory(member.variable).items():
                member.memory[name].assign(value)
        self.apply()

    def apply(self) -> None:
        """Write the zeros into the variables."""
        for member in self.members:
            member.variable.assign(member.masked(member.variable))

    def advance(self, update: Update, caller: MaskConstraint, weights: Tensor) -> None:
        """Count an update of the weights and renew the masks if it is time.

        All variables of the group were updated by now and none of them masked, so a
        weight that was zero can win its place back.
        """
        seen = self._counted.setdefault(update.call, WeakSet())
        if update.branch in seen:
            return
        seen.add(update.branch)
        members = [member.variable for member in self.members]
        moved = moves_variables(update.optimizer, members)
        if moved is False:
            return
        self.step.assign_add(ops.cast(moved, "int64"))
        for member in self.members:
            updated = weights if member is caller else member.variable
            self.criterion.observe(member, updated)
        if self._provisional is not None:
            self._settle_in_training(self._provisional, moved, caller, weights)
        if not self.pattern.is_scheduled:
            return
        due = ops.logical_and(self.schedule(self._next_step())[0], moved)
        ops.cond(due, lambda: self._renew({id(caller): weights}), lambda: None)
        for member in self.members:
            if member.is_statistic:
                member.variable.assign(member.masked(member.variable))

    def _settle_in_training(
        self,
        provisional: keras.Variable,
        moved: Tensor,
        caller: MaskConstraint,
        weights: Tensor,
    ) -> None:
        """`settle` inside of the first update, of a model that nobody asked before."""
        is_due = ops.logical_and(provisional, moved)
        updated = {id(caller): ops.convert_to_tensor(weights)}
        ops.cond(is_due, lambda: self._renew(updated, Magnitude()), lambda: None)
        provisional.assign(ops.logical_and(provisional, ops.logical_not(is_due)))

    def _renew(
        self, updated: dict[int, Tensor], criterion: Criterion | None = None
    ) -> None:
        """Make new masks, from the values in `updated` where these are given."""
        criterion = self.criterion if criterion is None else criterion
        kernels = [
            member.candidate(
                ops.convert_to_tensor(updated.get(id(member), member.variable))
            )
            for member in self.members
        ]
        scores = criterion.scores(self.members, kernels)
        layouts = [member.layout for member in self.members]
        sparsity = self.schedule(self._next_step())[1]
        every = slice(None)
        parts = [slice(i, i + 1) for i in range(len(scores))]
        for part in [every] if self.shared else parts:
            masks = self.pattern.masks(
                scores[part], layouts[part], sparsity, signed=criterion.signed
            )
            for member, mask in zip(self.members[part], masks, strict=True):
                member.mask.assign(mask)

    def _next_step(self) -> Tensor:
        return ops.convert_to_tensor(self.step)


def _state_variable(
    reference: keras.Variable, value: np.ndarray, name: str
) -> keras.Variable:
    """A variable beside `reference`, of which each replica keeps its own copy.

    All replicas compute the same values, and a copy of one's own can be written
    inside a condition, which a mirrored variable cannot.
    """
    strategy = getattr(reference.value, "distribute_strategy", None)
    with strategy.scope() if strategy else nullcontext():
        return keras.Variable(
            value,
            dtype=str(value.dtype),
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            synchronization="on_read",
            name=name,
        )
