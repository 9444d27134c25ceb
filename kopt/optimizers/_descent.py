"""From a gradient to a variable's next value, as mathematics: tensors in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from kopt._variables import NARROW
from kopt.optimizers import _rounding, _transforms
from kopt.optimizers._plan import COMPENSATION

if TYPE_CHECKING:
    from kopt.optimizers._base import Optimizer


class Step(NamedTuple):
    """The scalars of one update, in the dtype of the arithmetic.

    Args:
        number: Which update this is, from 1.
        learning_rate: The learning rate, with the group's factor in it.
        shared: What the method's `once_per_step` returned.
        weight_decay: The decay of this variable for each unit of learning rate, or
            `None`. The formula sees it only if the method decays itself.
        traits: What the method's `traits` said of the variable.
        measured: What the method's `measure` returned, if it measures.
        moves: 1, or 0 for a variable whose group is frozen; `None` without a group.
        seed: The number of the update and the position of the variable, two integers,
            or `None` where nothing is random.
    """

    number: Any
    learning_rate: Any
    shared: dict[str, Any]
    weight_decay: Any = None
    traits: Any = None
    measured: Any = None
    moves: Any = None
    seed: Any = None


def advance(
    optimizer: Optimizer, gradient: Any, weights: Any, state: dict[str, Any], step: Step
) -> tuple[Any, dict[str, Any]]:
    """One variable's next weights and state, in the dtypes that they are stored in.

    Args:
        optimizer: Its formula and its flags.
        gradient: The clipped gradient, float32 or float64, the dtype of the arithmetic.
        weights: The weights as stored, of the same shape.
        state: The state as stored, by name.
        step: The scalars of this update.
    """
    present = {name: ops.cast(value, gradient.dtype) for name, value in state.items()}
    current = ops.cast(weights, gradient.dtype)
    if COMPENSATION in present:
        current = current + present.pop(COMPENSATION)
    rate, direction, new_state = descend(optimizer, gradient, current, present, step)
    new = current - rate * direction
    return _stored(optimizer, new, weights, new_state, state, step)


def descend(
    optimizer: Optimizer,
    gradient: Any,
    weights: Any,
    state: dict[str, Any],
    step: Step,
    keep: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> tuple[Any, Any, dict[str, Any]]:
    """How far a variable goes down a direction, that direction, and its next state.

    The product of the first two, of a scalar and a tensor like the weights, is what
    is to be taken off the weights. `keep` stores the next state before the direction
    is made, and returns it as read back.
    """
    decay, mode = step.weight_decay, optimizer.weight_decay_mode
    if decay is not None and mode == "l2":
        gradient, decay = gradient + decay * weights, None
    if optimizer.decays_itself and mode != "cautious":
        step, decay = step._replace(weight_decay=decay), None
    else:
        step = step._replace(weight_decay=None)
    if optimizer.measures and step.measured is None:
        measured = optimizer.measure(gradient, weights, state, step)
        step = step._replace(measured=measured)
    if keep is None:
        direction, new_state = optimizer.update(gradient, weights, state, step)
    else:
        new_state = keep(optimizer.next_state(gradient, weights, state, step))
        direction = optimizer.direction(gradient, weights, new_state, step)
    rate = step.learning_rate
    if optimizer.scales_itself:
        rate = tf.ones_like(rate) if step.moves is None else step.moves
    if optimizer.rescales:
        factor = optimizer.factor(direction, weights, step)
        if decay is None:
            rate = rate * factor
        else:
            direction = factor * direction
    if optimizer.cautious:
        direction = _transforms.cautious(direction, gradient)
    if decay is not None:
        # Not `(1 - share) * weights`: one less a small share would be rounded, the
        # same way at every update.
        share = decay * step.learning_rate if optimizer.scales_itself else decay
        if mode == "cautious":
            share = share * ops.cast(direction * weights >= 0, weights.dtype)
        direction = direction + share * weights
    return rate, direction, new_state


def _stored(
    optimizer: Optimizer,
    new: Any,
    weights: Any,
    new_state: dict[str, Any],
    state: dict[str, Any],
    step: Step,
) -> tuple[Any, dict[str, Any]]:
    """Bring results back to the dtypes that the variables have."""
    written = {}
    for place, (name, value) in enumerate(new_state.items(), start=1):
        written[name] = _narrowed(value, state[name].dtype, step.seed, place)
    if COMPENSATION in state:
        rounded, written[COMPENSATION] = _rounding.compensated(new, weights.dtype)
        return rounded, written
    if optimizer.bf16_rounding == "stochastic":
        return _narrowed(new, weights.dtype, step.seed, 0), written
    return ops.cast(new, weights.dtype), written


def _narrowed(values: Any, dtype: Any, seed: Any, place: int) -> Any:
    """Bring values to a dtype; to 16 bits at random, so that small changes count."""
    dtype = keras.backend.standardize_dtype(dtype)
    if dtype in NARROW:
        # A variable and its slots draw different numbers.
        own_seed = ops.add(seed, [place << 24, 0])
        return _rounding.stochastic(ops.cast(values, "float32"), own_seed, dtype)
    return ops.cast(values, dtype)
