"""The n largest of many numbers, exactly, without sorting.

A float that is not negative orders like its bits read as an integer, so the n-th
largest is found bit by bit: counting the numbers that have the bits found so far and
the next one tells whether the n-th largest has it. Many numbers are counted by whole
groups of bits (a radix select), which reads them twice instead of 31 times. The same
operations run eagerly, in graphs and under XLA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

Tensor = Any

# From this many numbers on, two tables of counts cost less than 31 passes. (XLA
# takes long to compile them, so they are not for each of many small weights.)
_MANY = 2**18
_LEADING_BITS, _OTHER_BITS = 15, 16


def keep_largest(scores: Tensor, count: Tensor) -> Tensor:
    """A mask over exactly the `count` largest scores.

    Of equal scores at the border the first ones stay.

    Args:
        scores: A float32 vector without negative numbers.
        count: How many stay, from 1 to the number of scores.
    """
    select = _select_by_tables if scores.shape[0] >= _MANY else _select_by_bits
    return select(scores, tf.cast(count, tf.int32))


class Border(NamedTuple):
    """The smallest number that stays, and how many are at least as large."""

    key: Tensor
    at_least: Tensor


def _by_bits(keys: Tensor, count: Tensor) -> Border:
    """The `count`-th largest of some int32 numbers that are not negative."""

    def next_bit(bit: Tensor, key: Tensor, at_least: Tensor) -> tuple[Tensor, ...]:
        candidate = key + tf.bitwise.left_shift(1, bit)
        reached = _how_many(keys >= candidate)
        enough = reached >= count
        key = tf.where(enough, candidate, key)
        return bit - 1, key, tf.where(enough, reached, at_least)

    start = (tf.constant(30), tf.constant(0), tf.size(keys))
    return Border(*tf.while_loop(lambda bit, *_: bit >= 0, next_bit, start)[1:])


def _by_tables(keys: Tensor, count: Tensor) -> Border:
    """The `count`-th largest of some int32 numbers that are not negative."""
    bins = 2**_OTHER_BITS
    leading = tf.bitwise.right_shift(keys, _OTHER_BITS)
    first, above, _ = _nth_bin(leading, 2**_LEADING_BITS, count)
    # Numbers with other leading bits are counted in a bin of their own.
    others = tf.where(leading == first, tf.bitwise.bitwise_and(keys, bins - 1), bins)
    second, _, at_least = _nth_bin(others, bins, count - above)
    return Border(first * bins + second, above + at_least)


def _nth_bin(digits: Tensor, bins: int, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The bin of the `count`-th largest digit, and how many are above and in reach."""
    # `tf.math.bincount` computes its size from the data, which XLA cannot compile.
    counts = tf.raw_ops.DenseBincount(
        input=digits, size=bins + 1, weights=tf.constant([], tf.int32)
    )[:bins]
    at_least = tf.cumsum(counts, reverse=True)
    found = _how_many(at_least >= count) - 1
    # `at_least[found]` would make XLA compile for minutes.
    reached = tf.gather(at_least, found)
    return found, reached - tf.gather(counts, found), reached


def _how_many(mask: Tensor) -> Tensor:
    return tf.reduce_sum(tf.cast(mask, tf.int32))


def _selection(border_of: Callable[[Tensor, Tensor], Border]) -> Any:
    """`keep_largest` by one way of finding the border.

    It is one graph for vectors of every length: a hundred weights are traced once.
    """

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([], tf.int32),
        ],
        # A network calls it once a weight. Copied into each place, its loops would take
        # seconds to optimize before the first training step.
        experimental_attributes={"_noinline": True},
    )
    def select(scores: Tensor, count: Tensor) -> Tensor:
        keys = tf.bitcast(scores, tf.int32)
        border = border_of(keys, count)
        surplus = border.at_least - count

        def first_come() -> Tensor:
            tied = keys == border.key
            earliness = tf.where(tied, tf.range(tf.size(keys), 0, -1), 0)
            last = border_of(earliness, _how_many(tied) - surplus)
            return (keys > border.key) | (tied & (earliness >= last.key))

        return tf.cond(surplus > 0, first_come, lambda: keys >= border.key)

    return select


_select_by_bits = _selection(_by_bits)
_select_by_tables = _selection(_by_tables)
