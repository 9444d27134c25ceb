"""How many gradients each variable has accumulated.

Each variable counts its own: it is updated by the mean of its gradients when it has
received as many as `gradient_accumulation_steps` says, whatever other variables
received meanwhile. A batch that has no gradient for it leaves its sum alone.

`iterations` counts updates. Keras's counter, which is saved, holds their number times
the steps of accumulation, plus the most gradients that a variable waits with; where all
variables get a gradient from each batch, that is the number of batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from kopt.optimizers._plan import Plan

if TYPE_CHECKING:
    from kopt.optimizers._base import Optimizer


class Received(NamedTuple):
    """What the variables of one batch have received, this batch included.

    Args:
        due: Which of them are to be updated, a boolean vector in their order.
        counts: The next counts of all variables of the optimizer.
    """

    due: Any
    counts: Any


class Counts:
    """The counts of one built optimizer.

    Args:
        optimizer: An optimizer that accumulates gradients.
        size: The number of its variables.
    """

    def __init__(self, optimizer: Optimizer, size: int) -> None:
        self._optimizer = optimizer
        self._every: int = optimizer.gradient_accumulation_steps
        self.variable = optimizer.add_variable(
            shape=(size,),
            dtype="int32",
            aggregation="only_first_replica",
            name="accumulated",
        )

    def received(self, plans: Sequence[Plan]) -> Received:
        """Count one gradient for each of some variables."""
        counts = tf.convert_to_tensor(self.variable.value)
        places = [plan.index for plan in plans]
        new = tf.gather(counts, places) + 1
        due = new >= self._every
        new = tf.where(due, 0, new)
        if len(places) < counts.shape[0]:
            rows = tf.constant(places)[:, tf.newaxis]
            new = tf.tensor_scatter_nd_update(counts, rows, new)
        elif places != sorted(places):
            new = tf.gather(new, [places.index(i) for i in range(len(places))])
        return Received(due, new)

    def due(self, places: Sequence[int]) -> Any:
        """Which variables a batch will update that has gradients for some.

        Args:
            places: The positions of those with a gradient.

        Returns:
            A boolean vector by the position of all variables.
        """
        counts = tf.convert_to_tensor(self.variable.value)
        received = np.isin(np.arange(counts.shape[0]), places)
        return received & (counts + 1 >= self._every)

    def close(self, received: Received) -> Any:
        """Keep the counts; returns how far Keras's counter is to go."""
        self.variable.assign(received.counts)
        updated = tf.cast(tf.reduce_any(received.due), "int32")
        counter = tf.convert_to_tensor(self._optimizer.batches.value)
        updates = tf.cast(counter, "int32") // self._every + updated
        following = updates * self._every + tf.reduce_max(received.counts)
        return tf.cast(following, counter.dtype) - counter
