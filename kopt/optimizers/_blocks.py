"""A large variable block by block, inside of an XLA program.

XLA makes a pass over memory for every result. In blocks, what one pass has read or
written is still in the processor's cache for the next, and memory is gone over once.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from keras import ops

from kopt.optimizers._descent import Step, descend

if TYPE_CHECKING:
    from kopt.optimizers._base import Optimizer

#: How many numbers of each array fit into the cache of a core.
SHARE = 2**16
CORES = max(2, os.cpu_count() or 1)
#: With more cores than these a formula that XLA leaves on one core goes whole.
FEW_CORES = 4


def count(optimizer: Optimizer, size: int) -> int:
    """In how many blocks a variable of this size goes, by this method."""
    if not optimizer.cheap:
        return divided(size, SHARE * CORES)
    return divided(size, SHARE) if CORES <= FEW_CORES else 1


def divided(size: int, length: int) -> int:
    """In how many equal blocks of about this length a size can be divided."""
    fitting = [
        number
        for number in range(size // (2 * length), size // (length // 2) + 1)
        if number and size % number == 0
    ]
    return min(fitting, key=lambda number: abs(size / number - length), default=1)


def descended(
    optimizer: Optimizer, gradient: Any, weights: Any, state: dict[str, Any], step: Step
) -> tuple[Any, dict[str, Any]]:
    """A variable's next weights and state, if the method is `blockwise`.

    Args:
        optimizer: Its formula and its flags.
        gradient: The clipped gradient.
        weights: The weights, of the same shape and dtype.
        state: The state by name, of that shape and dtype too.
        step: The scalars of this update.
    """
    shape, size = tuple(weights.shape), math.prod(weights.shape)
    blocks = count(optimizer, size)
    length = (size // blocks,)
    gradient = ops.reshape(gradient, (size,))

    def take(
        number: Any, weights: Any, state: dict[str, Any]
    ) -> tuple[Any, Any, dict[str, Any]]:
        start = (number * length[0],)

        def block(tensor: Any) -> Any:
            return ops.slice(tensor, start, length)

        def keep(new: dict[str, Any]) -> dict[str, Any]:
            for name, value in new.items():
                state[name] = ops.slice_update(state[name], start, value)
            # Read back: with a use of an old value left, XLA would copy the whole of
            # it for every block.
            return {name: block(state[name]) for name in new}

        present = block(weights)
        old = {name: block(value) for name, value in state.items()}
        rate, direction, _ = descend(
            optimizer, block(gradient), present, old, step, keep
        )
        moved = ops.slice_update(weights, start, present - rate * direction)
        return number + 1, moved, state

    _, weights, state = tf.while_loop(
        lambda number, *_: number < blocks,
        take,
        (0, ops.reshape(weights, (size,)), _reshaped(state, (size,))),
        maximum_iterations=blocks,
    )
    return ops.reshape(weights, shape), _reshaped(state, shape)


def _reshaped(state: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    return {name: ops.reshape(value, shape) for name, value in state.items()}
