"""What replicas, each with its part of a batch, have to agree on."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def count() -> int:
    """In how many parts the batch in hand was divided."""
    if tf.distribute.get_replica_context() is None:
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


def extremes_of_all(low: Any, high: Any) -> tuple[Any, Any]:
    """The smallest and the largest number of the whole batch.

    Args:
        low: The smallest number of this replica's part, a scalar.
        high: The largest one.

    Raises:
        RuntimeError: In a loop or a condition, where replicas cannot meet.
    """
    if count() == 1:
        return low, high
    context = tf.distribute.get_replica_context()
    try:
        gathered = context.all_gather(tf.stack([[low, high]]), axis=0)
    except RuntimeError as error:
        raise RuntimeError(
            "A range that follows the data inside a loop cannot follow them on several "
            "replicas, which cannot meet there. Build the recurrent layer with "
            "`unroll=True`, or train on one device."
        ) from error
    return tf.reduce_min(gathered[:, 0]), tf.reduce_max(gathered[:, 1])
